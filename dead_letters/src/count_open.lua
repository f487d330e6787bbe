-- KEYS dlq_handled:<topic>:<partition>
-- ARGV low and high watermark: the partition has dead letters at offsets low..high-1
-- Returns how many of them have no mark, and the offset of the first such (high if there is none).
local low, high = tonumber(ARGV[1]), tonumber(ARGV[2])
if high <= low then return { 0, high } end
local bytes = redis.call('STRLEN', KEYS[1])
local handled, first = 0, nil
local function count_bits(from, to)
  for offset = from, to - 1 do
    if redis.call('GETBIT', KEYS[1], offset) == 1 then
      handled = handled + 1
    elseif not first then
      first = offset
    end
  end
end
-- Whole bytes [from, to) are counted at once, the bits before and after them one by one.
local from, to = math.ceil(low / 8), math.floor(high / 8)
if from >= to then
  count_bits(low, high)
else
  count_bits(low, from * 8)
  handled = handled + redis.call('BITCOUNT', KEYS[1], from, to - 1)
  if not first then
    local open = from < bytes and redis.call('BITPOS', KEYS[1], 0, from) or from * 8
    if open < to * 8 then first = open end
  end
  count_bits(to * 8, high)
end
return { high - low - handled, first or high }
