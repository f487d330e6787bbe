-- An admission as one script, for the rivals: the gateway does the same by plain commands (store/src/redis/admission.rs).
-- Takes a request id, counts it against the user's limit and sets PENDING; or does nothing at all.
-- KEYS ratelimit:<user> order_status:<id>
-- ARGV "<fingerprint, 16 hex digits> <correlation id>", "<owner> <sequence>"; in tests only: seconds, microseconds
-- Answers 0 fresh, 1 taken over, 2 other contents, -n over the limit for n ms, text: the correlation id of
-- the first.
--
-- ratelimit is the log of admissions, 6 bytes big-endian milliseconds each, ascending, the last LIMIT of
-- them.
-- order_status is "PENDING <P or T> <fingerprint> <correlation id>\n<s> <µs> <age> <owner> <sequence>". Seconds and
-- microseconds as TIME gives them, because Lua is slow at printing a number.
local call = redis.call
local log = call('GET', KEYS[1])
local time = ARGV[3] and { ARGV[3], ARGV[4] } or call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The limit: fewer than LIMIT admissions may lie in (at - window, at].
local at, wait = now, nil
if not log or #log % 6 ~= 0 then
  -- A length that is no multiple of 6 is not ours (an earlier engine kept a counter here).
  log = ''
elseif #log > 0 then
  local last = struct.unpack('>I6', log, #log - 5)
  if last > now + WINDOW_MS then
    -- From a clock that has jumped by more than a window: waiting for it would lock the user out.
    log = ''
  else
    -- A clock that goes back lets nobody in twice.
    if last > at then at = last end
    local oldest = #log - LIMIT * 6 + 1
    if oldest > 0 then
      local free = struct.unpack('>I6', log, oldest) + WINDOW_MS
      if free > at then wait = math.min(free - now, WINDOW_MS) end
      -- What lies before the last LIMIT can never decide anything again.
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

-- Not for the first time, or over the limit. A duplicate is a duplicate also then.
local first = call('GET', KEYS[2])
if not first then return -wait end
local state, fingerprint, correlation, s, us, age, owner, sequence =
  string.match(first, '^PENDING (%u) (%x+) (.-)\n(%d+) (%d+) (%-?%d+) (%w+) (%d+)$')
if not state then return '' end
if fingerprint ~= string.sub(ARGV[1], 1, 16) then return 2 end
local before = s * 1000 + math.floor(us / 1000)
if state ~= 'U' then
  if now < before + TAKEOVER_AFTER_MS then return correlation end
  -- A key that is not declared: this needs a single Redis, not a cluster.
  local watermark = call('GET', 'gateway_watermark:' .. owner)
  if watermark and tonumber(watermark) >= tonumber(sequence) then return correlation end
end
call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'PENDING T ' .. taken .. (now - before + age) .. ' ' .. ARGV[2])
return 1
