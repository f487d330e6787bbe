-- Checks whether a gateway's commands would work now. It changes nothing: each write gets an argument that is
-- not an integer, which Redis rejects last, after rights, role, memory and persistence. Any other error is
-- one that an order would get too; NX with GET needs Redis 7.0.
-- KEYS ratelimit: order_status: gateway_watermark: inventory: (no id is empty, so none of them exists)
-- Returns 1, or that error.
return PROBE('SET', KEYS[1], '', 'NX', 'PX', 'x') or PROBE('SET', KEYS[2], '', 'NX', 'GET', 'PX', 'x')
  or PROBE('PSETEX', KEYS[2], 'x', '') or PROBE('PSETEX', KEYS[3], 'x', '')
  or PROBE('SETRANGE', KEYS[2], 'x', '') or PROBE('DEL', KEYS[1]) or PROBE('DEL', KEYS[2])
  or PROBE('MGET', KEYS[1]) or PROBE('MGET', KEYS[2]) or PROBE('MGET', KEYS[4])
  or PROBE('GET', KEYS[1]) or PROBE('GET', KEYS[2]) or PROBE('GET', KEYS[3])
  or PROBE('PTTL', KEYS[1]) or PROBE('PTTL', KEYS[2]) or PROBE('TIME') or 1
