-- Could the steps of a processor be carried out now? Changes nothing, as probe_gateway.lua; HSETNX has no integer that
-- could be wrong, so it is tried for real, and taken back, only when a connection is made.
-- KEYS order_status: reservation: inventory: stock_ledger: (no id is empty, so none of them exists)
-- ARGV 1 when a connection is made
-- Answers 1, or that error.
local refusal = PROBE('PSETEX', KEYS[1], 'x', '') or PROBE('PSETEX', KEYS[2], 'x', '')
  or PROBE('INCRBY', KEYS[3], 'x') or PROBE('DECRBY', KEYS[3], 'x')
  or PROBE('HINCRBY', KEYS[4], 'taken', 'x') or PROBE('DEL', KEYS[2])
  or PROBE('MGET', KEYS[1], KEYS[2], KEYS[3]) or PROBE('GET', KEYS[3]) or PROBE('HMGET', KEYS[4], 'base')
if not refusal and ARGV[1] == '1' then
  refusal = PROBE('HSETNX', KEYS[4], 'base', '0') or PROBE('DEL', KEYS[4])
end
return refusal or 1
