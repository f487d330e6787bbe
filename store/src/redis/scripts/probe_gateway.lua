-- Could the steps of a gateway be carried out now? Changes nothing: a write gets an argument that is no integer, which
-- Redis refuses last, after rights, role, memory and persistence. Any other error is what an order would meet.
-- KEYS ratelimit: idempotency: order_status: gateway_watermark: inventory: (no id is empty, so none of them exists)
-- Answers 1, or that error.
return PROBE('PSETEX', KEYS[1], 'x', '') or PROBE('PSETEX', KEYS[2], 'x', '')
  or PROBE('PSETEX', KEYS[3], 'x', '') or PROBE('PSETEX', KEYS[4], 'x', '')
  or PROBE('SET', KEYS[1], '', 'PX', 'x') or PROBE('SET', KEYS[3], '', 'PX', 'x')
  or PROBE('SETRANGE', KEYS[2], 'x', '') or PROBE('DEL', KEYS[1], KEYS[2], KEYS[3])
  or PROBE('MGET', KEYS[1], KEYS[2], KEYS[3]) or PROBE('MGET', KEYS[5])
  or PROBE('GET', KEYS[1]) or PROBE('GET', KEYS[4]) or PROBE('TIME') or 1
