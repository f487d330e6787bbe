-- The broker may have the order: keeps the id, and lets the next send take it over at once.
-- KEYS order_status:<id>
-- ARGV owner, sequence
-- Returns 1, or 0 if the id is not held by that owner and sequence.
-- MGET returns nil for a key of the wrong type instead of an error.
local value = redis.call('MGET', KEYS[1])[1]
if not value then return 0 end
local owner, sequence = string.match(value, '^PENDING %u [^\n]*\n(%w+) (%d+) %d+$')
if owner ~= ARGV[1] or sequence ~= ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], 8, 'U')
return 1
