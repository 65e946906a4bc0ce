-- Notes that a node is at this server, and answers how many are: those that said so a moment ago,
-- and not in what has become the future since the clock was set back.
local function company(key, node)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZADD', key, now, node)
  redis.call('PEXPIRE', key, 30000)
  local count, nodes = 0, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for at = 1, #nodes, 2 do
    local age_ms = now - nodes[at + 1]
    if age_ms < 0 or age_ms > 1250 then
      redis.call('ZREM', key, nodes[at])
    else
      count = count + 1
    end
  end
  return count
end
