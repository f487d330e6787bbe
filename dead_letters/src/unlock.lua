-- KEYS dlq_lock:<topic>
-- ARGV id of the run
-- Releases the lock if the run holds it.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
