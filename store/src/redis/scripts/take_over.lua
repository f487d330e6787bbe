-- Takes over a pending id, if its value has not changed since it was read.
-- KEYS order_status:<id>
-- ARGV the value that was read, the new value
-- Returns 1 if it was taken over.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, ARGV[2])
return 1
