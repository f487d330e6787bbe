-- The broker surely does not have the order: frees the id and gives the user's admission back. An id that was taken over, or
-- is suspended already, is suspended instead: the broker may have the order from an earlier send.
-- KEYS ratelimit:<user> idempotency:<id> order_status:<id>
-- ARGV owner, sequence
-- Answers 1, or 0 when the id is no longer held by that owner and sequence.
local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local log, id = held[1], held[2]
if not id or held[3] ~= 'PENDING' then return 0 end
local state, s, us, age, owner, sequence = string.match(id, '^(%u) %x+ (%d+) (%d+) (%-?%d+) (%w+) (%d+) ')
if owner ~= ARGV[1] or sequence ~= ARGV[2] then return 0 end
if state ~= 'P' then
  redis.call('SETRANGE', KEYS[2], 0, 'U')
  return 1
end

if log and #log % 6 == 0 then
  local stamp = struct.pack('>I6', s * 1000 + math.floor(us / 1000) - age)
  for at = #log - 5, 1, -6 do
    if string.sub(log, at, at + 5) == stamp then
      if #log == 6 then
        redis.call('DEL', KEYS[1])
      else
        redis.call('SET', KEYS[1], string.sub(log, 1, at - 1) .. string.sub(log, at + 6), 'KEEPTTL')
      end
      break
    end
  end
end
redis.call('DEL', KEYS[2], KEYS[3])
return 1
