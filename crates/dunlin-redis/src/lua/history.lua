-- ARGV beside settle's: 4 size, 5 limit, 6 whether the newest come first; and if only a part is
-- wanted: 7 the offset that it begins behind, 8 epoch and 9 branch that it has to be of.
-- Answers the position and the entries; only the position if the offset is of another past.
local head, top, branch = settle()
local newest = position(head, top)
local is_reverse, since = ARGV[6] == '1', tonumber(ARGV[7])
if ARGV[8] and base(head, top, branch, ARGV[8], ARGV[9], since) ~= since then
  return {newest}
end
-- Trimming may leave a few more than asked for.
local from, to = math.max(top - ARGV[4], 0) + 1, top
if since and is_reverse then
  to = math.min(to, since - 1)
elseif since then
  from = math.max(from, since + 1)
end
if ARGV[5] == '0' or from > to then
  return {newest, {}}
elseif is_reverse then
  return {newest, redis.call('XREVRANGE', stream, to, from, 'COUNT', ARGV[5])}
end
return {newest, redis.call('XRANGE', stream, from, to, 'COUNT', ARGV[5])}
