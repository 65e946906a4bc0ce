-- Brings back what this server lacks of what an earlier one acknowledged, at its place and as it
-- was: who has it knows it by its position. That is only possible until something else is published.
-- What cannot be had back is told: the channel gets an epoch that nobody has, for somebody misses
-- something before the next publication.
-- KEYS beside settle's: where publications wait for those before them, which another node has.
-- ARGV beside keep's: 8 epoch, 9 branch and 10 newest offset of what the node knows, 11 whether to
-- wait no longer for what others know, and offset, message and id of each that it gives.
-- Answers how many were put back; and the offset up to which all is here if the rest may come, or
-- -1 if it is given up.
local FIRST, EARLY_MS = 12, 30000
local epoch, old_branch, newest = ARGV[8], ARGV[9], tonumber(ARGV[10])
local head, top, branch = settle(true)

-- A channel that this server does not know began on the earlier one, if their seed is the same.
local born
if top == 0 and math.floor(old_branch / GENERATION) == 1 and redis.call('EXISTS', meta) == 0 then
  local now = period()
  born = epoch == derived(now) and now or epoch == derived(now - 1) and now - 1
  if born then
    head, branch = epoch .. struct.pack('>I8', old_branch), old_branch
  end
end

-- Whoever is of an epoch that is forgotten is told so already.
if head:sub(1, 8) ~= epoch or has_all(head, top, branch, epoch, old_branch, newest) then
  return {0}
end

local early, before, taken = KEYS[4], top, {}
if branch == old_branch then
  for at = FIRST, #ARGV, 3 do
    redis.call('HSET', early, 'd' .. ARGV[at], ARGV[at + 1], 'i' .. ARGV[at], ARGV[at + 2])
    redis.call('PEXPIRE', early, EARLY_MS)
  end
  while top < newest do
    local data, id = string.format('d%d', top + 1), string.format('i%d', top + 1)
    local next = redis.call('HMGET', early, data, id)
    if not next[1] then
      break
    end
    if born and top == 0 then
      redis.call('HSET', meta, 'h', head, 'q', branch, 'b', born, 'f1', branch .. ':1')
    end
    top = top + 1
    append(head, branch, top, next[1], next[2])
    taken[#taken + 1] = {data, id}
  end
end
if top > before then
  redis.call('HSET', meta, 'o', string.format('%d', top))
  keep_on(before)
end
-- Last, for that may be the end of the key: while its slot moves, a script that asks for a key that
-- is not there ends where it does.
for _, fields in ipairs(taken) do
  redis.call('HDEL', early, fields[1], fields[2])
end
if branch == old_branch and top >= newest then
  return {top - before}
elseif branch == old_branch and ARGV[11] ~= '1' then
  return {top - before, top}
end
-- Nobody was told this epoch in any period.
redis.call('HSET', meta, 'b', 0)
begin_branch(new_epoch, top, branch)
redis.call('UNLINK', early)
return {top - before, -1}
