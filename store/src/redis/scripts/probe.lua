local function PROBE(...)
  local reply = redis.pcall(...)
  local refusal = type(reply) == 'table' and reply.err
  if refusal and not string.find(refusal, 'not an integer', 1, true) then return reply end
end
