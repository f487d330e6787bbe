-- Admission as one script, for the rivals: the gateway does the same with plain commands (store/src/redis/admission.rs).
-- Either takes a request id, counts it against the user's limit and sets PENDING, or changes nothing.
-- KEYS ratelimit:<user> order_status:<id>
-- ARGV "<fingerprint, 16 hex digits> <correlation id>", "<owner> <sequence>"; in tests only: seconds, microseconds
-- Returns 0 for a new id, 1 for a takeover, 2 for different contents, -n when over the limit for n ms, or a string: the
-- correlation id of the first order.
--
-- ratelimit holds the times of the last LIMIT admissions, 6 bytes big-endian milliseconds each, ascending.
-- order_status is "PENDING <P or T> <fingerprint> <correlation id>\n<s> <µs> <age> <owner> <sequence>". Seconds and
-- microseconds are stored as TIME returns them, because formatting a number in Lua is slow.
local call = redis.call
local log = call('GET', KEYS[1])
local time = ARGV[3] and { ARGV[3], ARGV[4] } or call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The limit: at most LIMIT - 1 earlier admissions in (at - window, at].
local at, wait = now, nil
if not log or #log % 6 ~= 0 then
  -- A value whose length is not a multiple of 6 is from another program (an earlier engine kept a counter here).
  log = ''
elseif #log > 0 then
  local last = struct.unpack('>I6', log, #log - 5)
  if last > now + WINDOW_MS then
    -- Written by a clock that had jumped ahead by more than a window: waiting for that time would lock the user out.
    log = ''
  else
    -- A clock that steps back must not admit anyone twice.
    if last > at then at = last end
    local oldest = #log - LIMIT * 6 + 1
    if oldest > 0 then
      local free = struct.unpack('>I6', log, oldest) + WINDOW_MS
      if free > at then wait = math.min(free - now, WINDOW_MS) end
      -- Admissions before the last LIMIT no longer affect the result.
      log = string.sub(log, oldest + 6)
    end
  end
end

local taken = ARGV[1] .. '\n' .. time[1] .. ' ' .. time[2] .. ' '
if not wait then
  local value = 'PENDING P ' .. taken .. (at == now and '0 ' or (now - at) .. ' ') .. ARGV[2]
  if call('SET', KEYS[2], value, 'NX', 'PX', ORDER_STATUS_TTL) then
    call('PSETEX', KEYS[1], WINDOW_TTL, log .. struct.pack('>I6', at))
    return 0
  end
end

-- The id is taken, or the user is over the limit. A duplicate is reported as a duplicate even over the limit.
local first = call('GET', KEYS[2])
if not first then return -wait end
local state, fingerprint, correlation, s, us, age, owner, sequence =
  string.match(first, '^PENDING (%u) (%x+) (.-)\n(%d+) (%d+) (%-?%d+) (%w+) (%d+)$')
if not state then return '' end
if fingerprint ~= string.sub(ARGV[1], 1, 16) then return 2 end
local before = s * 1000 + math.floor(us / 1000)
if state ~= 'U' then
  if now < before + TAKEOVER_AFTER_MS then return correlation end
  -- This key is not declared in KEYS, so the script needs a single Redis, not a cluster.
  local watermark = call('GET', 'gateway_watermark:' .. owner)
  if watermark and tonumber(watermark) >= tonumber(sequence) then return correlation end
end
call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'PENDING T ' .. taken .. (now - before + age) .. ' ' .. ARGV[2])
return 1
