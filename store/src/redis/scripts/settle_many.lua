-- As settle.lua does one order after another, for orders under ids that differ.
-- KEYS order_status:<id> reservation:<id> of each order
-- ARGV attempt, item of each order
-- Answers an array of what settle.lua answers; false is nil.
local found = redis.call('MGET', unpack(KEYS))
local answers, done = {}, {}
for n = 1, #KEYS / 2 do
  local status, contents = STATUS_OF(found[2 * n - 1])
  local fence = found[2 * n]
  answers[n] = status
  if fence and (not status or status == 'PENDING') then
    -- "H <attempt> <partition> <offset> <amount> <item>", and no item has a blank: its ends say all, and cost half of
    -- a pattern's captures.
    local head, tail = 'H ' .. ARGV[2 * n - 1] .. ' ', ' ' .. ARGV[2 * n]
    if string.sub(fence, 1, #head) == head and string.sub(fence, -#tail) == tail then
      redis.call('PSETEX', KEYS[2 * n - 1], ORDER_STATUS_TTL, 'COMPLETED' .. contents)
      done[#done + 1] = KEYS[2 * n]
      answers[n] = 1
    end
  end
end
if #done > 0 then redis.call('DEL', unpack(done)) end
return answers
