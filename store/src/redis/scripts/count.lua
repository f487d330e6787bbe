-- Counts an admission against the user's limit, or returns how long until there is room.
-- KEYS ratelimit:<user>
-- ARGV tag; for a takeover also the tag of the first send, which it replaces
-- Returns 0 if counted, -n if over the limit for another n ms.
--
-- While a user has one admission, the value is "F<tag>". The command that set it has no clock, so the time of
-- that admission is one window before the key expires. From the second admission on the value is "L" and a
-- log of 12 bytes per admission: big-endian milliseconds and tag, ascending, the last LIMIT of them. A tag is
-- 6 bytes. Any other value was not written by this software and counts as empty.
local call = redis.call
local value = call('GET', KEYS[1])
local log, left = '', nil
if value and #value == 7 and string.sub(value, 1, 1) == 'F' then
  -- Read the TTL before the time: a timestamp that is too late limits the user for too long, one that is too
  -- early not long enough.
  left = call('PTTL', KEYS[1])
elseif value and #value % 12 == 1 and string.sub(value, 1, 1) == 'L' then
  log = string.sub(value, 2)
end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if left then log = struct.pack('>I6', now + left - WINDOW_MS) .. string.sub(value, 2) end

-- A takeover replaces its first send in the log, so there is room as long as the first send is in the window.
if ARGV[2] then
  for at = 7, #log, 12 do
    local tag = string.sub(log, at, at + 5)
    if tag == ARGV[1] then return 0 end
    if tag == ARGV[2] then
      log = string.sub(log, 1, at - 7) .. string.sub(log, at + 6)
      break
    end
  end
end

-- Fewer than LIMIT admissions may be in (at - window, at].
local at = now
if #log > 0 then
  local last = struct.unpack('>I6', log, #log - 11)
  if last > now + WINDOW_MS then
    -- The clock jumped by more than a window: waiting for it would lock the user out.
    log = ''
  else
    -- A clock that goes back must not admit anybody twice.
    if last > at then at = last end
    local oldest = #log - LIMIT * 12 + 1
    if oldest > 0 then
      local free = struct.unpack('>I6', log, oldest) + WINDOW_MS
      if free > at then return -math.min(free - now, WINDOW_MS) end
      -- Entries before the last LIMIT can no longer influence the limit.
      log = string.sub(log, oldest + 12)
    end
  end
end
call('SET', KEYS[1], 'L' .. log .. struct.pack('>I6', at) .. ARGV[1], 'PX', at - now + WINDOW_MS)
return 0
