-- Renews a node's lease in a partition and changes its members there.
-- KEYS: nodes, and the key that never exists: the others follow from ARGV, and none of them may be
-- gone in the middle of a call.
-- ARGV: how keys begin, node, ttl of the lease in ms, the call's number, whether it is the node's
-- `first`, or it wants to `keep` its lease, or comes back in `return`, how Redis channels begin,
-- and of each change: channel, client, what is known of it or nothing when it leaves, whether it is
-- told again.
-- Answers 1; or 2 when no members are left, and no lease. Changes nothing when there is no lease to
-- keep, and answers 3 when it is over: others may have removed members, and said that they left; or
-- 0 when nothing is known of it.
local nodes, prefix, node, number, mode = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]
local last = prefix .. 'l:' .. node
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', nodes, node)
if mode == 'keep' and (not ends or tonumber(ends) <= now) then
  return (ends or redis.call('GET', last) == 'swept') and 3 or 0
end
-- A connection that was given up may still bring an old call.
if (tonumber(redis.call('GET', last) or 0) or 0) >= number then
  return 1
end
redis.call('SET', last, number, 'PX', ARGV[3] * 10)
redis.call('ZADD', nodes, now + ARGV[3], node)
for at = 7, #ARGV, 4 do
  local channel, client, member = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local members, users = prefix .. 'p:' .. node .. ':' .. channel, prefix .. 'u:' .. channel
  local old = redis.call('HGET', members, client)
  if old then
    uncount(users, user_of(old))
  end
  if member ~= '' then
    redis.call('HSET', members, client, member)
    redis.call('HINCRBY', users, user_of(member), 1)
    if not old and redis.call('HLEN', members) == 1 then
      redis.call('SADD', prefix .. 'h:' .. channel, node)
      redis.call('SADD', prefix .. 'c:' .. node, channel)
    end
    if not old and mode == 'return' and ARGV[at + 3] == '1' and member:sub(1, 1) == '1' then
      -- It was said to have left. FF 12 instead of FF 13 makes a join of a leave: see envelope.rs.
      redis.call(PUBLISH, ARGV[6] .. channel, '\255\18' .. member:sub(4))
    end
  elseif old then
    redis.call('HDEL', members, client)
    if redis.call('EXISTS', members) == 0 then
      redis.call('SREM', prefix .. 'h:' .. channel, node)
      redis.call('SREM', prefix .. 'c:' .. node, channel)
    end
  end
end
if mode ~= 'return' and redis.call('EXISTS', prefix .. 'c:' .. node) == 0 then
  redis.call('ZREM', nodes, node)
  redis.call('DEL', last)
  return 2
end
return 1
