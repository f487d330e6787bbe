-- The word of an order_status value, and what of it stays with a final one: " <fingerprint> <correlation id>", or nothing for
-- an order that no gateway took. The forms: wire/src/status_value.rs. Without a value the word is false.
local function STATUS_OF(value)
  if not value then return false, '' end
  if string.sub(value, 1, 8) == 'PENDING ' then
    local stop = string.find(value, '\n', 10, true)
    return 'PENDING', string.sub(value, 10, stop and stop - 1)
  end
  local blank = string.find(value, ' ', 1, true)
  if not blank then return value, '' end
  return string.sub(value, 1, blank - 1), string.sub(value, blank)
end
-- The value while a replay runs.
local function REPLAYING(contents)
  return contents == '' and 'PENDING' or 'PENDING R' .. contents
end
