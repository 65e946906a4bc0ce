-- Removes some members of a node whose lease is over.
-- KEYS: nodes. ARGV: how keys begin, how many channels at most, and which node: its lease is over
-- by that; nothing = any.
-- Answers whether there may be more to remove.
local nodes, prefix, node = KEYS[1], ARGV[1], ARGV[3]
if node ~= '' then
  redis.call('ZADD', nodes, 'XX', 0, node)
else
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  node = redis.call('ZRANGE', nodes, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not node then
    return 0
  end
end
local channels = prefix .. 'c:' .. node
for _, channel in ipairs(redis.call('SPOP', channels, ARGV[2])) do
  redis.call('UNLINK', prefix .. 'p:' .. node .. ':' .. channel)
  redis.call('SREM', prefix .. 'h:' .. channel, node)
end
if redis.call('EXISTS', channels) == 1 then
  return 1
end
redis.call('ZREM', nodes, node)
redis.call('DEL', prefix .. 'l:' .. node)
return ARGV[3] == '' and 1 or 0
