-- Takes the units of an order out of stock, or ends it as sold out or unknown.
-- KEYS order_status:<id> reservation:<id> inventory:<item> stock_ledger:<item>
-- ARGV amount, attempt, "<partition> <offset>", "<amount> <item>"
-- Answers n >= 0 held and n left, -1 held already, -2 unknown item, "S <left>" sold out,
-- "E <recorded attempt> <1 when the same record> <status>" ended before.
--
-- reservation is "<H, R or U> <attempt> <partition> <offset> <amount> <item>": held, refunded, or unknown item.
local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local status, fence, stock = held[1], held[2], held[3]
local amount, attempt = tonumber(ARGV[1]), tonumber(ARGV[2])
local state, recorded, origin, wish
if fence then
  state, recorded, origin, wish = string.match(fence, '^(%u) (%d+) (%-?%d+ %-?%d+) (.*)$')
end
recorded = tonumber(recorded or '0')

local function ended_before(as)
  return 'E ' .. recorded .. (origin == ARGV[3] and ' 1 ' or ' 0 ') .. as
end
local function hold()
  redis.call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'H ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
end
local function pending()
  if status ~= 'PENDING' then redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'PENDING') end
end

if status and status ~= 'PENDING' then
  local replayable = status == 'FAILED_PAYMENT' or status == 'FAILED_UNKNOWN_ITEM'
  if not replayable or attempt <= recorded then return ended_before(status) end
end
if state == 'H' then
  -- Another order under the same id, or an attempt that was overtaken: nothing of it may happen.
  if wish ~= ARGV[4] or attempt < recorded then return ended_before('PENDING') end
  if attempt > recorded then hold() end
  pending()
  return -1
end

-- MGET hides a wrong type; GET says it, and the order fails by itself.
if not stock then stock = redis.call('GET', KEYS[3]) end
local left = KNOWN_UNITS(stock)
if not left then
  redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'FAILED_UNKNOWN_ITEM')
  redis.call('PSETEX', KEYS[2], ORDER_STATUS_TTL, 'U ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
  return -2
end
if left < amount then
  redis.call('PSETEX', KEYS[1], ORDER_STATUS_TTL, 'FAILED_SOLD_OUT')
  if fence then redis.call('DEL', KEYS[2]) end
  return 'S ' .. stock
end
-- The ledger first: of these only it can fail (wrong type), and then nothing has changed.
if redis.call('HINCRBY', KEYS[4], 'taken', ARGV[1]) <= amount then
  redis.call('HSETNX', KEYS[4], 'base', stock)
end
redis.call('DECRBY', KEYS[3], ARGV[1])
hold()
pending()
return left - amount
