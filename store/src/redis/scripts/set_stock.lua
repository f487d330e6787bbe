-- An operator sets the units left; the ledger is adjusted to balance, held units included.
-- KEYS inventory:<item> stock_ledger:{inventory:<item>}
-- ARGV units
-- Returns the units left.
local units = tonumber(ARGV[1])
local taken = tonumber(redis.call('HGET', KEYS[2], 'taken') or '0')
redis.call('HSET', KEYS[2], 'base', string.format('%d', units + taken), 'taken', string.format('%d', taken))
redis.call('SET', KEYS[1], ARGV[1])
return units
