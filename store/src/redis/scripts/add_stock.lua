-- An operator adds units to a known stock; an unknown stock stays unknown.
-- KEYS inventory:<item> stock_ledger:{inventory:<item>}
-- ARGV units
-- Returns the units left, nil if they are unknown.
local stock = redis.call('GET', KEYS[1])
if not KNOWN_UNITS(stock) then return false end
redis.call('HSETNX', KEYS[2], 'base', stock)
redis.call('HINCRBY', KEYS[2], 'base', ARGV[1])
return redis.call('INCRBY', KEYS[1], ARGV[1])
