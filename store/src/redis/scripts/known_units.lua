-- Units as a number; nil if the text is not a plain integer that both Redis and Lua represent exactly: no
-- sign but minus, no leading zero, at most 15 digits. The same rule as `known_units` of the model.
local function KNOWN_UNITS(stock)
  if not stock or #stock > 16 then return nil end
  if stock ~= '0' and not string.match(stock, '^%-?[1-9]%d*$') then return nil end
  local units = tonumber(stock)
  if units >= 1e15 or units <= -1e15 then return nil end
  return units
end
