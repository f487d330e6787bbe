-- Checks whether a processor's commands would work now. Like probe_gateway.lua it changes nothing, with one exception: HSETNX and
-- HSET take no integer that Redis could refuse, so a new connection runs them once and deletes the result.
-- KEYS order_status: inventory: stock_ledger:{inventory:} fence:{inventory:}: (no id is empty, so none of them exists)
-- ARGV 1 in the handshake of a connection
-- Returns 1, or that error.
local refusal = PROBE('PSETEX', KEYS[1], 'x', '') or PROBE('SET', KEYS[1], '', 'NX', 'GET', 'PX', 'x')
  or PROBE('INCRBY', KEYS[2], 'x') or PROBE('DECRBY', KEYS[2], 'x')
  or PROBE('HINCRBY', KEYS[3], 'taken', 'x') or PROBE('PEXPIRE', KEYS[4], 'x') or PROBE('HMGET', KEYS[4], 'x')
  or PROBE('MGET', KEYS[1]) or PROBE('GET', KEYS[2]) or PROBE('HMGET', KEYS[3], 'base')
if not refusal and ARGV[1] == '1' then
  refusal = PROBE('HSETNX', KEYS[3], 'base', '0') or PROBE('DEL', KEYS[3])
    or PROBE('HSET', KEYS[4], 'x', '') or PROBE('DEL', KEYS[4])
end
return refusal or 1
