-- Payment failed: returns the units of held orders of one item to the stock.
-- KEYS inventory:<item> stock_ledger:{inventory:<item>} fence:{inventory:<item>}:<bucket>
-- ARGV all request ids, which differ; then, in the same order, all "H <attempt> "; and all fences
-- "R <attempt> <partition> <offset>"
-- Returns an array: 1 if this call refunded the order, or an earlier call for the same record did (its reply may have been lost);
-- else the fence, or nil (false). An order that Redis refuses has the error in its place.
local call, pcall = redis.call, redis.pcall
local orders = #ARGV / 3
local fences = call('HMGET', KEYS[3], unpack(ARGV, 1, orders))
local answers, written, units = {}, {}, 0
for n = 1, orders do
  local fence, held, refunded = fences[n], ARGV[orders + n], ARGV[2 * orders + n]
  answers[n] = fence
  if fence == refunded then
    answers[n] = 1
  elseif fence and string.sub(fence, 1, #held) == held then
    answers[n] = 1
    units = units + string.sub(fence, #held + 1)
    written[#written + 1] = ARGV[n]
    written[#written + 1] = refunded
  end
end
if units == 0 then return answers end

-- The ledger comes first: on one of the wrong type, as on a stock of the wrong type, the orders fail and nothing changes.
local stock = pcall('GET', KEYS[1])
local failed = type(stock) == 'table' and stock
if not failed then
  local base = pcall('HGET', KEYS[2], 'base')
  if type(base) == 'table' then failed = base end
  -- A lost ledger is created again by the next reservation.
  if type(base) == 'string' then call('HINCRBY', KEYS[2], 'taken', -units) end
end
if failed then
  for n = 1, orders do
    if answers[n] == 1 and string.sub(fences[n], 1, 1) == 'H' then answers[n] = failed end
  end
  return answers
end
-- An unknown stock stays unknown: there is no number to add these units to.
if KNOWN_UNITS(stock) then call('INCRBY', KEYS[1], units) end
WRITE_FENCES(KEYS[3], written)
return answers
