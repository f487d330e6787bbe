-- Counts an admission against the user's limit, or says how long until there is room.
-- KEYS ratelimit:<user>
-- ARGV tag, and of a takeover the tag of the first send, instead of which it is counted
-- Answers 0 counted, -n over the limit for n ms.
--
-- The key is "F<tag>" while a user has one admission: the command that set it has no clock, so the admission lies one window
-- before the key expires. From the second one on it is "L" and a log, 12 bytes an admission: big-endian milliseconds and
-- tag, ascending, the last LIMIT of them. A tag is 6 bytes. Anything else is not ours and counts nothing.
local call = redis.call
local value = call('GET', KEYS[1])
local log, left = '', nil
if value and #value == 7 and string.sub(value, 1, 1) == 'F' then
  -- Before the time is read: a stamp that is late refuses too long, an early one not long enough.
  left = call('PTTL', KEYS[1])
elseif value and #value % 12 == 1 and string.sub(value, 1, 1) == 'L' then
  log = string.sub(value, 2)
end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if left then log = struct.pack('>I6', now + left - WINDOW_MS) .. string.sub(value, 2) end

-- A takeover is counted now, and its first send no longer: as long as that lies in the window there is room.
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

-- Fewer than LIMIT admissions may lie in (at - window, at].
local at = now
if #log > 0 then
  local last = struct.unpack('>I6', log, #log - 11)
  if last > now + WINDOW_MS then
    -- From a clock that has jumped by more than a window: waiting for it would lock the user out.
    log = ''
  else
    -- A clock that goes back lets nobody in twice.
    if last > at then at = last end
    local oldest = #log - LIMIT * 12 + 1
    if oldest > 0 then
      local free = struct.unpack('>I6', log, oldest) + WINDOW_MS
      if free > at then return -math.min(free - now, WINDOW_MS) end
      -- What lies before the last LIMIT can never decide anything again.
      log = string.sub(log, oldest + 12)
    end
  end
end
call('SET', KEYS[1], 'L' .. log .. struct.pack('>I6', at) .. ARGV[1], 'PX', at - now + WINDOW_MS)
return 0
