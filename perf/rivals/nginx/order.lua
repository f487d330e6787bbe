-- One order: checked, admitted by the engine's own script in Redis, handed to the producer's buffer, answered 202.
-- The 202 leaves BEFORE the broker has the record: the producer is asynchronous and nobody waits for it. What it cannot deliver
-- after its retries is logged and lost, and so is what a worker holds when it is killed.
local cjson = require "cjson.safe"
local ffi = require "ffi"
local producer = require "nginx.kafka.producer"
local redis = require "nginx.redis"

local type, floor, concat = type, math.floor, table.concat
local match = ngx.re.find

-- Connections to Redis that a worker keeps: enough for no request to wait for one. With 64 of them and 256 clients p99 was two to
-- four times as long.
local POOL = { pool_size = 1024 }
local POOL_IDLE_MS = 60000
local REDIS_TIMEOUT_MS = 2000

-- acks=all. Version 2 of Produce, the newest of this client, carries a time, but no headers and no producer id: the record has
-- no headers, and a retry may write it twice.
local PRODUCER = {
  producer_type = "async",
  required_acks = -1,
  api_version = 2,
  flush_time = 5,
  batch_num = 200,
  max_buffering = 200000,
  max_retry = 3,
  retry_backoff = 100,
}

local M = {}
local settings, sha, kafka, owner
local sequence = 0

ffi.cdef "int prctl(int option, unsigned long value, ...);"
local PR_SET_PDEATHSIG, SIGKILL = 1, 9

-- In the master, before it has workers.
function M.set(given)
  local file = assert(io.open(given.script, "rb"))
  given.source = file:read "*a"
  file:close()
  settings = given
end

-- In each worker.
function M.start()
  -- A worker outlives a master that is killed, and nothing that was started for a run may outlive it.
  ffi.C.prctl(PR_SET_PDEATHSIG, ffi.cast("unsigned long", SIGKILL))
  owner = "nginx" .. ngx.worker.id()
  kafka = producer:new({ { host = settings.kafka_host, port = settings.kafka_port } }, PRODUCER)
end

local function answer(status, correlation_id, text)
  ngx.status = status
  local header = ngx.header
  header["Content-Length"] = #text
  header["x-correlation-id"] = correlation_id
  return ngx.print(text)
end

local function refuse(status, error, correlation_id)
  return answer(status, correlation_id, cjson.encode { error = error, correlation_id = correlation_id })
end

local function is_id(text)
  return type(text) == "string" and match(text, [[\A[A-Za-z0-9_-]{1,100}\z]], "jo") ~= nil
end

local function is_request_id(text)
  return type(text) == "string" and match(text, [[\A[^\x00-\x1f\x7f]{1,200}\z]], "jo") ~= nil
end

local function is_amount(number)
  return type(number) == "number" and number >= 1 and number <= 1000 and number == floor(number)
end

-- What the script says; nil and why when Redis does not answer.
local function admit(order, contents, holder)
  local connection = redis:new()
  connection:set_timeout(REDIS_TIMEOUT_MS)
  local done, failure = connection:connect(settings.redis_host, settings.redis_port, POOL)
  if not done then return nil, failure end
  local said, reason
  for _ = 1, 2 do
    if not sha then
      sha, failure = connection:script("load", settings.source)
      if not sha then return nil, failure end
    end
    said, reason = connection:evalsha(sha, 2, "ratelimit:" .. order.user_id, "order_status:" .. order.request_id, contents,
      holder)
    -- A Redis that was started anew has forgotten the script.
    if said ~= false or reason:sub(1, 8) ~= "NOSCRIPT" then break end
    sha = nil
  end
  if said == nil then
    connection:close()
    return nil, reason
  end
  connection:set_keepalive(POOL_IDLE_MS)
  if said == false then return nil, reason end
  return said
end

function M.buy()
  if ngx.req.get_method() ~= "POST" then
    return answer(405, "", '{"error":"Method Not Allowed"}')
  end
  local var = ngx.var
  local correlation_id = var.http_x_correlation_id
  if not is_id(correlation_id) then
    -- 16 random bytes in hexadecimal, by nginx.
    correlation_id = var.request_id
  end
  ngx.req.read_body()
  local order = cjson.decode(ngx.req.get_body_data() or "")
  if type(order) ~= "table" then
    return refuse(400, "Invalid request body", correlation_id)
  end
  if not (is_id(order.user_id) and is_id(order.item_id) and is_amount(order.amount) and is_request_id(order.request_id)) then
    return refuse(400, "Validation failed", correlation_id)
  end

  sequence = sequence + 1
  -- No part has a blank in it.
  local fingerprint = ngx.md5(concat({ order.user_id, order.item_id, order.amount }, " ")):sub(1, 16)
  local said, failure = admit(order, fingerprint .. " " .. correlation_id, owner .. " " .. sequence)
  if not said then
    ngx.log(ngx.ERR, "Redis: ", failure)
    return refuse(503, "Service temporarily unavailable", correlation_id)
  elseif said == 2 then
    return refuse(422, "Request id reused with different content", correlation_id)
  elseif type(said) ~= "number" then
    return refuse(409, "Duplicate Request Detected", correlation_id)
  elseif said < 0 then
    return refuse(429, "Rate limit exceeded", correlation_id)
  end

  local now = ngx.now()
  local record = cjson.encode {
    user_id = order.user_id,
    item_id = order.item_id,
    amount = order.amount,
    request_id = order.request_id,
    correlation_id = correlation_id,
    accepted_at_ms = floor(now * 1000 + 0.5),
  }
  -- Into a buffer of this worker; a full one is the only failure that is seen here.
  local taken, why = kafka:send(settings.topic, order.user_id, record)
  if not taken then
    ngx.log(ngx.ERR, "Kafka: ", why)
    return refuse(503, "Service temporarily unavailable", correlation_id)
  end
  local took_ms = floor((now - ngx.req.start_time()) * 1000 + 0.5)
  var.correlation_id = correlation_id
  var.user_id = order.user_id
  var.item_id = order.item_id
  var.order_id = order.request_id
  var.took_ms = took_ms
  return answer(202, correlation_id, cjson.encode {
    status = "Order Queued",
    correlation_id = correlation_id,
    processing_time_ms = took_ms,
  })
end

return M
