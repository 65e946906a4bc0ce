-- Stands before every script that is given a position: what of it this server still knows.

-- The offset up to which a subscriber at this position has what this server has; none if that
-- cannot be told.
local function base(head, top, branch, given_epoch, given_branch, given_offset)
  if given_epoch ~= head:sub(1, 8) then
    return nil
  end
  if given_branch == branch then
    return given_offset <= top and given_offset or nil
  end
  local generation = math.floor(given_branch / GENERATION)
  local forks = redis.call('HMGET', meta, 'f' .. generation, 'f' .. generation + 1)
  if not forks[1] or not forks[2] or forks[1]:match('^%d+') ~= given_branch then
    return nil
  end
  return math.min(given_offset, forks[2]:match('%d+$') - 1)
end
