-- The broker may have the order: keeps the id, and lets the next try take it over at once.
-- KEYS idempotency:<id> order_status:<id>
-- ARGV owner, sequence
-- Answers 1, or 0 when the id is no longer held by that owner and sequence.
local held = redis.call('MGET', KEYS[1], KEYS[2])
local id = held[1]
if not id or held[2] ~= 'PENDING' then return 0 end
local owner, sequence = string.match(id, '^%u %x+ %d+ %d+ %-?%d+ (%w+) (%d+) ')
if owner ~= ARGV[1] or sequence ~= ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], 0, 'U')
return 1
