-- Goes the whole way of a publication: what is refused to this script is refused to publishes.
-- KEYS: what is written, where the nodes agree on how many servers there are and which of them this
-- is, and, unless others say which server it is, the nodes at this one. ARGV: channel, message, this
-- node's view of that place, its name.
-- Answers what the server says of itself now, as in INFO, and how many nodes are here; or another
-- view, and publishes nothing.
local place = redis.call('GET', KEYS[2])
if place and place ~= ARGV[3] then
  return {place}
end
redis.call('SET', KEYS[2], ARGV[3], 'PX', 30000)
redis.call('SET', KEYS[1], ARGV[2], 'PX', 30000)
redis.call(PUBLISH, ARGV[1], ARGV[2])
local here = KEYS[3] and 'company:' .. company(KEYS[3], ARGV[4]) .. '\r\n' or ''
local info = redis.pcall('INFO', 'server')
local replication = redis.pcall('INFO', 'replication')
if type(info) == 'table' or type(replication) == 'table' then
  -- This user may not ask.
  return here
end
return here .. info .. replication
