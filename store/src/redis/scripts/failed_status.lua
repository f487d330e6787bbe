-- Writes a final status that a replay may change, unless the status is COMPLETED or FAILED_SOLD_OUT, or of a later attempt.
-- KEYS order_status:<id>
-- ARGV value, attempt
-- Returns 1 if it was written.
-- MGET returns nil for a key of the wrong type instead of an error.
local value = redis.call('MGET', KEYS[1])[1]
if value then
  local word, tail = string.match(value, '^(%S*)[^\n]*\n?(%d*)')
  if word == 'COMPLETED' or word == 'FAILED_SOLD_OUT' then return 0 end
  local is_final = word == 'FAILED_PAYMENT' or word == 'FAILED_UNKNOWN_ITEM'
  if is_final and (tonumber(tail) or 0) > tonumber(ARGV[2]) then return 0 end
end
redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, ARGV[1])
return 1
