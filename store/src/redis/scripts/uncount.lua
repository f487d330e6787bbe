-- Removes an admission from a user's window. See count.lua for the forms of the value.
-- KEYS ratelimit:<user>
-- ARGV tag
-- Returns 1, or 0 if it was not counted.
-- MGET returns nil for a key of the wrong type instead of an error.
local value = redis.call('MGET', KEYS[1])[1]
if not value then return 0 end
if value == 'F' .. ARGV[1] then return redis.call('DEL', KEYS[1]) end
if #value % 12 ~= 1 or string.sub(value, 1, 1) ~= 'L' then return 0 end
for at = #value - 5, 8, -12 do
  if string.sub(value, at, at + 5) == ARGV[1] then
    if #value == 13 then return redis.call('DEL', KEYS[1]) end
    redis.call('SET', KEYS[1], string.sub(value, 1, at - 7) .. string.sub(value, at + 6), 'KEEPTTL')
    return 1
  end
end
return 0
