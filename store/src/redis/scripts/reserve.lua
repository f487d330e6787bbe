-- Takes the units of orders of one item out of stock, or marks them as sold out or unknown item, one after
-- another. It reads the stock once and changes it once.
-- KEYS inventory:<item> stock_ledger:{inventory:<item>} fence:{inventory:<item>}:<bucket>
-- ARGV all request ids, which differ; then, in the same order, all fences "H <attempt> <amount>"; all amounts; and all
-- "<attempt> <partition> <offset>" of the records
-- Returns an array: n >= 0: held, n units left; -1: already held; -2: unknown item; "S <left>": sold out;
-- "E <recorded attempt> <1 if by this record, else 0> <status>": final before this call, or PENDING if the units are held with
-- another amount or by a later attempt. An order that Redis refuses has the error in its place.
--
-- A fence is "H <attempt> <amount>" held, "C" completed, "S" sold out, "R <attempt> <partition> <offset>" refunded, or the
-- same with U, unknown item.
local call, pcall = redis.call, redis.pcall
local STATUS = { C = 'COMPLETED', S = 'FAILED_SOLD_OUT', R = 'FAILED_PAYMENT', U = 'FAILED_UNKNOWN_ITEM' }
local orders = #ARGV / 4
local fences = call('HMGET', KEYS[3], unpack(ARGV, 1, orders))
local stock = pcall('GET', KEYS[1])
-- The stock key has the wrong type: each order that needs units fails individually.
local broken = nil
if type(stock) == 'table' then stock, broken = false, stock end
local known = KNOWN_UNITS(stock)

-- Decides the answer for each order, and which fences to write.
local answers, written, left, taken
local ended = false
local function decide(ledger_broken)
  answers, written, left, taken = {}, {}, known, 0
  for n = 1, orders do
    local held, amount = ARGV[orders + n], tonumber(ARGV[2 * orders + n])
    local state, recorded, rest, later, origin
    if fences[n] then
      local attempt
      state, recorded, rest = string.match(fences[n], '^(%u) ?(%d*) ?(.*)$')
      attempt, origin = string.match(ARGV[3 * orders + n], '^(%d+) (.*)$')
      later = tonumber(attempt) - (tonumber(recorded) or 0)
    end
    local fence = nil
    if state == 'H' then
      -- Another order under the same id, or an attempt older than the holder: it must not change anything.
      if tonumber(rest) ~= amount or later < 0 then
        answers[n] = 'E ' .. recorded .. ' 0 PENDING'
      else
        answers[n] = -1
        if later > 0 then fence = held end
      end
    elseif state == 'C' or state == 'S' then
      answers[n], ended = 'E 0 0 ' .. STATUS[state], true
    elseif state and later <= 0 then
      answers[n], ended = 'E ' .. recorded .. (rest == origin and ' 1 ' or ' 0 ') .. STATUS[state], true
    elseif broken then
      answers[n] = broken
    elseif not left then
      answers[n], fence = -2, 'U ' .. ARGV[3 * orders + n]
    elseif left < amount then
      answers[n], fence = 'S ' .. string.format('%.0f', left), 'S'
    elseif ledger_broken then
      answers[n] = ledger_broken
    else
      left, taken = left - amount, taken + amount
      answers[n], fence = left, held
    end
    if fence then
      written[#written + 1] = ARGV[n]
      written[#written + 1] = fence
    end
  end
end

-- The ledger comes first: of these writes only it can fail, and then nothing has changed.
decide(nil)
if taken > 0 then
  local sum = pcall('HINCRBY', KEYS[2], 'taken', taken)
  if type(sum) == 'table' then
    decide(sum)
  else
    if sum <= taken then call('HSETNX', KEYS[2], 'base', stock) end
    call('DECRBY', KEYS[1], taken)
  end
end
WRITE_FENCES(KEYS[3], written)
-- The status is about to be rewritten with a full TTL. Renew the fence too, or it would expire long before the status.
if ended and #written == 0 then call('PEXPIRE', KEYS[3], ORDER_STATUS_TTL) end
return answers
