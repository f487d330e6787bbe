-- As refund.lua does one order after another, for orders of one item under ids that differ.
-- KEYS order_status:<id> reservation:<id> of each order, inventory:<item>, stock_ledger:<item>
-- ARGV attempt, "<partition> <offset>" of each order, item
-- Answers an array of what refund.lua answers; false is nil, an order that fails by itself has an error there.
local call, pcall = redis.call, redis.pcall
local orders = (#KEYS - 2) / 2
local inventory, ledger, item = KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[#ARGV]
local found = call('MGET', unpack(KEYS, 1, #KEYS - 1))
local stock = found[#KEYS - 1]
local answers, refunded, contents, units = {}, {}, {}, 0
for n = 1, orders do
  local status, fence = nil, found[2 * n]
  status, contents[n] = STATUS_OF(found[2 * n - 1])
  local asked_attempt, asked_origin = ARGV[2 * n - 1], ARGV[2 * n]
  answers[n] = status
  if fence then
    local state, attempt, origin, amount, held_item = string.match(fence, '^([HR]) (%d+) (%-?%d+ %-?%d+) (%d+) (.*)$')
    if attempt == asked_attempt and held_item == item then
      if state == 'R' and status == 'FAILED_PAYMENT' and origin == asked_origin then
        answers[n] = 1
      elseif state == 'H' and (not status or status == 'PENDING') then
        refunded[n] = 'R ' .. attempt .. ' ' .. asked_origin .. ' ' .. amount .. ' ' .. item
        units = units + amount
      end
    end
  end
end
if units == 0 then return answers end

-- MGET hides a wrong type; GET says it, and the orders fail by themselves. So they do on a ledger of the wrong type,
-- which comes first: then nothing has changed.
local failed = nil
if not stock then
  stock = pcall('GET', inventory)
  if type(stock) == 'table' then failed = stock end
end
if not failed then
  local sum = pcall('HINCRBY', ledger, 'taken', -units)
  if type(sum) == 'table' then failed = sum end
end
-- An unknown stock stays unknown: nobody can say how many units these would add to.
if not failed and KNOWN_UNITS(stock) then call('INCRBY', inventory, units) end
for n = 1, orders do
  if refunded[n] then
    answers[n] = failed or 1
    if not failed then
      call('PSETEX', KEYS[2 * n], ORDER_STATUS_TTL, refunded[n])
      call('PSETEX', KEYS[2 * n - 1], ORDER_STATUS_TTL, 'FAILED_PAYMENT' .. contents[n])
    end
  end
end
return answers
