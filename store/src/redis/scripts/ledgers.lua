-- KEYS stock_ledger:{inventory:<item>}, many
-- Returns base and taken of each as one flat array; nil where there is none.
local found = {}
for index, key in ipairs(KEYS) do
  local ledger = redis.call('HMGET', key, 'base', 'taken')
  found[2 * index - 1], found[2 * index] = ledger[1], ledger[2]
end
return found
