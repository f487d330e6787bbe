-- Paid: ends a held order as COMPLETED.
-- KEYS order_status:<id> reservation:<id>
-- ARGV attempt, item
-- Answers 1 when this call ended it, else the status (nil when there is none).
local held = redis.call('MGET', KEYS[1], KEYS[2])
local status, contents = STATUS_OF(held[1])
local fence = held[2]
if not fence or (status and status ~= 'PENDING') then return status end
local attempt, item = string.match(fence, '^H (%d+) %-?%d+ %-?%d+ %d+ (.*)$')
if attempt ~= ARGV[1] or item ~= ARGV[2] then return status end
redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'COMPLETED' .. contents)
redis.call('DEL', KEYS[2])
return 1
