-- Renews a node's lease and changes its members.
-- KEYS: nodes. ARGV: how keys begin, node, ttl of the lease in ms, the call's number, whether it is
-- the node's first, and of each change: channel, client, what is known of it or nothing when it
-- leaves.
-- Answers 1; or 0, and changes nothing, when the lease is over: others may have removed members.
local nodes, prefix, node, number = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', nodes, node)
if ARGV[5] == '0' and (not ends or tonumber(ends) <= now) then
  return 0
end
-- A connection that was given up may still bring an old call.
local last = prefix .. 'l:' .. node
if tonumber(redis.call('GET', last) or 0) >= number then
  return 1
end
redis.call('SET', last, number, 'PX', ARGV[3] * 10)
redis.call('ZADD', nodes, now + ARGV[3], node)
for at = 6, #ARGV, 3 do
  local channel, client, info = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local members = prefix .. 'p:' .. node .. ':' .. channel
  if info ~= '' then
    if redis.call('HSET', members, client, info) == 1 and redis.call('HLEN', members) == 1 then
      redis.call('SADD', prefix .. 'h:' .. channel, node)
      redis.call('SADD', prefix .. 'c:' .. node, channel)
    end
  elseif redis.call('HDEL', members, client) == 1 and redis.call('EXISTS', members) == 0 then
    redis.call('SREM', prefix .. 'h:' .. channel, node)
    redis.call('SREM', prefix .. 'c:' .. node, channel)
  end
end
return 1
