-- Unique orders for wrk: every request has its own user and request id.
-- Environment: RUN (first part of every id, default "w"; with "bot" all orders have the same user), ITEM (default "101").
local run = os.getenv("RUN") or "w"
local item = os.getenv("ITEM") or "101"
local threads = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function init()
  sent = 0
  head = "POST /buy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
  prefix = run .. thread_number .. "-"
end

function request()
  sent = sent + 1
  local id = prefix .. sent
  local user = run == "bot" and "bot" or "u" .. id
  local body = '{"user_id":"' .. user .. '","item_id":"' .. item .. '","amount":1,"request_id":"' .. id .. '"}'
  return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,"non2xx":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    latency.max, errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
