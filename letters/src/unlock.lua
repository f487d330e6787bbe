-- KEYS dlq_lock:<topic>
-- ARGV run
-- Frees the lock when the run holds it.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
