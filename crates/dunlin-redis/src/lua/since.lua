-- Stands before every script that is given a position: whether it is of what this server has.

-- Whether a subscriber at this position has what this server has up to there. One that has more of
-- an earlier branch than this server knew when it took over has something else.
local function has_all(head, top, branch, given_epoch, given_branch, given_offset)
  if given_epoch ~= head:sub(1, 8) then
    -- It may have been told so a little before, when there was nothing to miss.
    local born = redis.call('HMGET', meta, 'b')[1] or period()
    return given_offset == 0 and given_epoch == derived(born - 1)
  elseif given_offset > top then
    return false
  elseif given_branch == branch or given_offset == 0 then
    return true
  end
  local generation = math.floor(given_branch / GENERATION)
  local forks = redis.call('HMGET', meta, 'f' .. generation, 'f' .. generation + 1)
  if not forks[1] or not forks[2] or forks[1]:match('^%d+') ~= given_branch then
    return false
  end
  return given_offset < tonumber(forks[2]:match('%d+$'))
end
