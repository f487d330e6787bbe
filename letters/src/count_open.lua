-- KEYS dlq_handled:<topic>:<partition>
-- ARGV low and high watermark: letters low..high-1 are there
-- Answers how many of them have no mark, and the first of these (high when there is none).
local low, high = tonumber(ARGV[1]), tonumber(ARGV[2])
if high <= low then return { 0, high } end
local bytes = redis.call('STRLEN', KEYS[1])
local handled, first = 0, nil
local function look(from, to)
  for offset = from, to - 1 do
    if redis.call('GETBIT', KEYS[1], offset) == 1 then
      handled = handled + 1
    elseif not first then
      first = offset
    end
  end
end
-- Whole bytes [from, to); what lies before and after them is looked at bit by bit.
local from, to = math.ceil(low / 8), math.floor(high / 8)
if from >= to then
  look(low, high)
else
  look(low, from * 8)
  handled = handled + redis.call('BITCOUNT', KEYS[1], from, to - 1)
  if not first then
    local open = from < bytes and redis.call('BITPOS', KEYS[1], 0, from) or from * 8
    if open < to * 8 then first = open end
  end
  look(to * 8, high)
end
return { high - low - handled, first or high }
