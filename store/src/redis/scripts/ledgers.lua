-- KEYS stock_ledger:{inventory:<item>}, many
-- Answers base and taken of each, in a row; nil where there is none.
local found = {}
for index, key in ipairs(KEYS) do
  local ledger = redis.call('HMGET', key, 'base', 'taken')
  found[2 * index - 1], found[2 * index] = ledger[1], ledger[2]
end
return found
