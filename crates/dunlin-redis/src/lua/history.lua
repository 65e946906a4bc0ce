-- ARGV beside settle's: 4 size, 5 limit, 6 bytes of a page, 7 whether the newest come first; and if
-- only a part is wanted: 8 the offset that it begins behind, 9 epoch and 10 branch that it has to
-- be of.
-- Answers the position and the entries; only the position if the offset is of another past.
local head, top, branch = settle(true)
local newest = position(head, top)
local is_reverse, since = ARGV[7] == '1', tonumber(ARGV[8])
if ARGV[9] and not has_all(head, top, branch, ARGV[9], ARGV[10], since) then
  return {newest}
end
-- Trimming may leave a few more than asked for.
local from, to = math.max(top - ARGV[4], (keeping(0))) + 1, top
if since and is_reverse then
  to = math.min(to, since - 1)
elseif since then
  from = math.max(from, since + 1)
end
local limit, bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6])
if from > to then
  return {newest, {}}
elseif is_reverse then
  return {newest, page('XREVRANGE', to, from, limit, bytes_max)}
end
return {newest, page('XRANGE', from, to, limit, bytes_max)}
