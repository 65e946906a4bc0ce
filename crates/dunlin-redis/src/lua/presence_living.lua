-- Stands before the scripts that read members.
-- KEYS: nodes, the nodes that have members of the channel, and the key that never exists, for the
-- members are found in data. ARGV: how keys begin, channel.

-- Where the members are of every node whose lease is not over.
local function living()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local all = {}
  for _, node in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local ends = redis.call('ZSCORE', KEYS[1], node)
    if ends and tonumber(ends) > now then
      all[#all + 1] = ARGV[1] .. 'p:' .. node .. ':' .. ARGV[2]
    end
  end
  return all
end
