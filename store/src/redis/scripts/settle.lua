-- Paid: completes held orders.
-- KEYS fence:{inventory:<item>}:<bucket>
-- ARGV all request ids, which differ; then, in the same order, all "H <attempt> "
-- Returns an array: 1 if this call completed the order, else its fence, or nil (false).
local orders = #ARGV / 2
local fences = redis.call('HMGET', KEYS[1], unpack(ARGV, 1, orders))
local answers, written = {}, {}
for n = 1, orders do
  local fence, held = fences[n], ARGV[orders + n]
  if fence and string.sub(fence, 1, #held) == held then
    answers[n] = 1
    written[#written + 1] = ARGV[n]
    written[#written + 1] = 'C'
  else
    answers[n] = fence
  end
end
WRITE_FENCES(KEYS[1], written)
return answers
