-- KEYS dlq_lock:<topic>
-- ARGV id of the run, expiry in ms
-- Returns 1 if the run holds the lock now, else 0.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
