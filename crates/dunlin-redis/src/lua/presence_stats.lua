-- Answers how many members there are, and how many users they are. Users of a node that died count
-- until it is swept, but there are never more of them than members.
local clients = 0
for _, members in ipairs(living()) do
  clients = clients + redis.call('HLEN', members)
end
local users = redis.call('HLEN', ARGV[1] .. 'u:' .. ARGV[2])
return {clients, math.min(clients, users)}
