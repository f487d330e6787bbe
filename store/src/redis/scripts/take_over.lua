-- Takes a pending id over, if it is still what was seen.
-- KEYS order_status:<id>
-- ARGV the value that was seen, the new one
-- Answers 1 when it was.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, ARGV[2])
return 1
