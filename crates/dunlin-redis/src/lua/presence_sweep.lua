-- Removes some members of a node whose lease is over, and announces that they left.
-- KEYS: nodes, and the key that never exists: the others are found in data, and none of them may be
-- gone in the middle of a call.
-- ARGV: how keys begin, how many members at most, how Redis channels begin, and which node: its
-- lease is over by that, and it has announced what there was to announce; nothing = any.
-- Answers whether there may be more to remove.
local SWEPT_KEPT_MS = 600000
local nodes, prefix, room, node = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[4]
local is_dead = node == ''
if is_dead then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  node = redis.call('ZRANGE', nodes, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not node then
    return 0
  end
else
  redis.call('ZADD', nodes, 'XX', 0, node)
end
local channels, last = prefix .. 'c:' .. node, prefix .. 'l:' .. node
while room > 0 do
  local channel = redis.call('SRANDMEMBER', channels)
  if not channel then
    redis.call('ZREM', nodes, node)
    if is_dead then
      -- It may come back.
      redis.call('SET', last, 'swept', 'PX', SWEPT_KEPT_MS)
      return 1
    end
    redis.call('DEL', last)
    return 0
  end
  local members, users = prefix .. 'p:' .. node .. ':' .. channel, prefix .. 'u:' .. channel
  local some = redis.call('HRANDFIELD', members, room, 'WITHVALUES')
  for at = 1, #some, 2 do
    local member = some[at + 1]
    redis.call('HDEL', members, some[at])
    uncount(users, user_of(member))
    if is_dead and member:sub(1, 1) == '1' then
      redis.call(PUBLISH, ARGV[3] .. channel, member:sub(2))
    end
  end
  -- A channel costs something, too.
  room = room - #some / 2 - 1
  if redis.call('EXISTS', members) == 0 then
    redis.call('SREM', prefix .. 'h:' .. channel, node)
    redis.call('SREM', channels, channel)
  end
end
return 1
