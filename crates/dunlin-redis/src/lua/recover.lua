-- ARGV beside settle's: 4 the most that is wanted, and the position: 5 epoch, 6 branch, 7 offset.
-- Answers the position, the offset that the entries begin behind, and the entries; only the
-- position if they are not all there.
local head, top, branch = settle()
local newest = position(head, top)
local from = base(head, top, branch, ARGV[5], ARGV[6], tonumber(ARGV[7]))
if not from or top - from > tonumber(ARGV[4]) then
  return {newest}
end
local entries = {}
if from < top then
  entries = redis.call('XRANGE', stream, from + 1, top)
end
if #entries < top - from then
  return {newest}
end
return {newest, from, entries}
