-- Takes the units of an order out of stock, or ends it as sold out or unknown.
-- KEYS order_status:<id> reservation:<id> inventory:<item> stock_ledger:<item>
-- ARGV amount, attempt, "<partition> <offset>", "<amount> <item>"
-- Answers n >= 0 held and n left, -1 held already, -2 unknown item, "S <left>" sold out,
-- "E <recorded attempt> <1 when the same record> <status>" ended before.
--
-- reservation is "<H, R or U> <attempt> <partition> <offset> <amount> <item>": held, refunded, or unknown
-- item.
local call = redis.call
local held = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local status, contents = STATUS_OF(held[1])
local fence, stock = held[2], held[3]
local attempt = tonumber(ARGV[2])
local state, recorded, origin, wish = nil, 0, nil, nil
if fence then
  state, recorded, origin, wish = string.match(fence, '^(%u) (%d+) (%-?%d+ %-?%d+) (.*)$')
  recorded = tonumber(recorded)
end

local ended
if status and status ~= 'PENDING' then
  local replayable = status == 'FAILED_PAYMENT' or status == 'FAILED_UNKNOWN_ITEM'
  if not replayable or attempt <= recorded then ended = status end
end
-- Another order under the same id, or an attempt that was overtaken: nothing of it may happen.
if not ended and state == 'H' and (wish ~= ARGV[4] or attempt < recorded) then ended = 'PENDING' end
if ended then return 'E ' .. recorded .. (origin == ARGV[3] and ' 1 ' or ' 0 ') .. ended end

local asked = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
if state == 'H' then
  if attempt > recorded then call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'H ' .. asked) end
  if status ~= 'PENDING' then call('PSETEX', KEYS[1], ORDER_STATUS_TTL, REPLAYING(contents)) end
  return -1
end

-- MGET hides a wrong type; GET says it, and the order fails by itself.
if not stock then stock = call('GET', KEYS[3]) end
local left, amount = KNOWN_UNITS(stock), tonumber(ARGV[1])
if not left then
  call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'FAILED_UNKNOWN_ITEM' .. contents)
  call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'U ' .. asked)
  return -2
end
if left < amount then
  call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'FAILED_SOLD_OUT' .. contents)
  if fence then call('DEL', KEYS[2]) end
  return 'S ' .. stock
end
-- The ledger first: of these only it can fail (wrong type), and then nothing has changed.
if call('HINCRBY', KEYS[4], 'taken', ARGV[1]) <= amount then call('HSETNX', KEYS[4], 'base', stock) end
left = call('DECRBY', KEYS[3], ARGV[1])
call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'H ' .. asked)
if status ~= 'PENDING' then call('PSETEX', KEYS[1], ORDER_STATUS_TTL, REPLAYING(contents)) end
return left
