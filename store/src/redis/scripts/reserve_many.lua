-- As reserve.lua does one order after another, for orders of one item under ids that differ: one look at the
-- stock, one change of it.
-- KEYS order_status:<id> reservation:<id> of each order, inventory:<item>, stock_ledger:<item>
-- ARGV amount, attempt, "<partition> <offset>" of each order, item
-- Answers an array of what reserve.lua answers; an order that fails by itself has an error there.
local call, pcall = redis.call, redis.pcall
local orders = (#KEYS - 2) / 2
local inventory, ledger = KEYS[#KEYS - 1], KEYS[#KEYS]
local item = ' ' .. ARGV[#ARGV]
local found = call('MGET', unpack(KEYS, 1, #KEYS - 1))
local stock = found[#KEYS - 1]
-- MGET hides a wrong type; GET says it, and the orders that want units fail by themselves.
local broken = nil
if not stock then
  stock = pcall('GET', inventory)
  if type(stock) == 'table' then stock, broken = false, stock end
end
local known = KNOWN_UNITS(stock)

-- What each order is answered, and what is written for it: status, then reservation.
local answers, statuses, fences, left, taken
local function decide(ledger_broken)
  answers, statuses, fences, left, taken = {}, {}, {}, known, 0
  for n = 1, orders do
    local status, contents = STATUS_OF(found[2 * n - 1])
    local fence = found[2 * n]
    local amount, attempt, origin = ARGV[3 * n - 2], ARGV[3 * n - 1], ARGV[3 * n]
    local wish = amount .. item
    local state, recorded, recorded_origin, recorded_wish
    if fence then
      state, recorded, recorded_origin, recorded_wish = string.match(fence, '^(%u) (%d+) (%-?%d+ %-?%d+) (.*)$')
    end
    recorded = recorded or '0'
    local later = tonumber(attempt) - tonumber(recorded)

    local ended = nil
    if status and status ~= 'PENDING' then
      local replayable = status == 'FAILED_PAYMENT' or status == 'FAILED_UNKNOWN_ITEM'
      if not replayable or later <= 0 then ended = status end
    end
    if not ended and state == 'H' and (recorded_wish ~= wish or later < 0) then ended = 'PENDING' end

    local asked = attempt .. ' ' .. origin .. ' ' .. wish
    if ended then
      answers[n] = 'E ' .. recorded .. (recorded_origin == origin and ' 1 ' or ' 0 ') .. ended
    elseif state == 'H' then
      answers[n] = -1
      if later > 0 then fences[n] = 'H ' .. asked end
      if status ~= 'PENDING' then statuses[n] = REPLAYING(contents) end
    elseif broken then
      answers[n] = broken
    elseif not left then
      answers[n], statuses[n], fences[n] = -2, 'FAILED_UNKNOWN_ITEM' .. contents, 'U ' .. asked
    elseif left < tonumber(amount) then
      answers[n], statuses[n] = 'S ' .. string.format('%.0f', left), 'FAILED_SOLD_OUT' .. contents
      if fence then fences[n] = '' end
    elseif ledger_broken then
      answers[n] = ledger_broken
    else
      left, taken = left - amount, taken + amount
      answers[n], fences[n] = left, 'H ' .. asked
      if status ~= 'PENDING' then statuses[n] = REPLAYING(contents) end
    end
  end
end

-- The ledger first: of these only it can fail, and then nothing has changed.
decide(nil)
if taken > 0 then
  local sum = pcall('HINCRBY', ledger, 'taken', taken)
  if type(sum) == 'table' then
    decide(sum)
  else
    if sum <= taken then call('HSETNX', ledger, 'base', stock) end
    call('DECRBY', inventory, taken)
  end
end
for n = 1, orders do
  local status, fence = statuses[n], fences[n]
  if status then call('PSETEX', KEYS[2 * n - 1], ORDER_STATUS_TTL, status) end
  if fence == '' then call('DEL', KEYS[2 * n]) elseif fence then call('PSETEX', KEYS[2 * n], ORDER_STATUS_TTL, fence) end
end
return answers
