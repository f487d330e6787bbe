-- Not paid: puts the units of a held order back and ends it as FAILED_PAYMENT.
-- KEYS order_status:<id> reservation:<id> inventory:<item> stock_ledger:<item>
-- ARGV attempt, item, "<partition> <offset>" of the record that asks
-- Answers 1 when this call ended it, or an earlier one of the same record, whose answer may have been lost;
-- else the status (nil when there is none).
local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local status, contents = STATUS_OF(held[1])
local fence, stock = held[2], held[3]
if not fence then return status end
if status == 'FAILED_PAYMENT' then
  local attempt, origin, item = string.match(fence, '^R (%d+) (%-?%d+ %-?%d+) %d+ (.*)$')
  if attempt == ARGV[1] and origin == ARGV[3] and item == ARGV[2] then return 1 end
end
if status and status ~= 'PENDING' then return status end
local attempt, amount, item = string.match(fence, '^H (%d+) %-?%d+ %-?%d+ (%d+) (.*)$')
if attempt ~= ARGV[1] or item ~= ARGV[2] then return status end

-- MGET hides a wrong type; GET says it, and the order fails by itself.
if not stock then stock = redis.call('GET', KEYS[3]) end
-- The ledger first: of these only it can fail (wrong type), and then nothing has changed.
redis.call('HINCRBY', KEYS[4], 'taken', '-' .. amount)
-- An unknown stock stays unknown: nobody can say how many units these would add to.
if KNOWN_UNITS(stock) then redis.call('INCRBY', KEYS[3], amount) end
local refunded = 'R ' .. attempt .. ' ' .. ARGV[3] .. ' ' .. amount .. ' ' .. item
redis.call('PSETEX', KEYS[2], ORDER_STATUS_TTL, refunded)
redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'FAILED_PAYMENT' .. contents)
return 1
