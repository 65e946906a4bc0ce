-- ARGV beside settle's: 4 size, 5 and 6 how many entries and bytes a page has, and the position: 7
-- epoch, 8 branch, 9 offset.
-- Answers the position, the oldest entries behind the one that was given, and for how many ms they
-- are kept yet; only the position if they are not all there.
local head, top, branch = settle(true)
local newest = position(head, top)
local since = tonumber(ARGV[9])
if not has_all(head, top, branch, ARGV[7], ARGV[8], since) or top - since > tonumber(ARGV[4]) then
  return {newest}
end
if since == top then
  return {newest, {}, 0}
end
local over, left_ms = keeping(since + 1)
local entries = page('XRANGE', since + 1, top, tonumber(ARGV[5]), tonumber(ARGV[6]))
if over > since or not entries[1] or tonumber(entries[1][1]:match('^%d+')) ~= since + 1 then
  return {newest}
end
return {newest, entries, left_ms}
