-- Converts what version 0.1 stored of an order into its fence. That version needed a single server, so these
-- keys need no common slot.
-- KEYS reservation:<id> fence:{inventory:<item>}:<bucket>
-- ARGV request id, item
-- Returns 1 if a fence was written.
local former = redis.call('GET', KEYS[1])
if not former then return 0 end
-- "<H, R or U> <attempt> <partition> <offset> <amount> <item>": held, refunded, unknown item.
local state, attempt, origin, amount, item = string.match(former, '^(%u) (%d+) (%-?%d+ %-?%d+) (%d+) (.*)$')
if item ~= ARGV[2] then return 0 end
local fence = state .. ' ' .. attempt .. ' ' .. (state == 'H' and amount or origin)
local written = redis.call('HSETNX', KEYS[2], ARGV[1], fence)
if written == 1 then redis.call('PEXPIRE', KEYS[2], ORDER_STATUS_TTL) end
redis.call('DEL', KEYS[1])
return written
