-- The broker certainly does not have the order: frees the id. An id that was taken over, or is already
-- suspended, is suspended instead: the broker may have the order from an earlier send.
-- KEYS order_status:<id>
-- ARGV owner, sequence
-- Returns 2 if freed, 1 if suspended, 0 if not held by that owner and sequence.
-- MGET returns nil for a key of the wrong type instead of an error.
local value = redis.call('MGET', KEYS[1])[1]
if not value then return 0 end
local state, owner, sequence = string.match(value, '^PENDING (%u) [^\n]*\n(%w+) (%d+) %d+$')
if owner ~= ARGV[1] or sequence ~= ARGV[2] then return 0 end
if state == 'P' then
  redis.call('DEL', KEYS[1])
  return 2
end
redis.call('SETRANGE', KEYS[1], 8, 'U')
return 1
