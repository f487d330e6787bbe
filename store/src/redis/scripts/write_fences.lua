-- Writes fences, given as alternating ids and values. A bucket lives as long as the status of its last order.
local function WRITE_FENCES(bucket, written)
  if #written == 0 then return end
  redis.call('HSET', bucket, unpack(written))
  redis.call('PEXPIRE', bucket, ORDER_STATUS_TTL)
end
