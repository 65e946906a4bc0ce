-- Stands before the scripts that change members.
-- A member is kept as whether its end is announced, in one byte, and the message that announces it:
-- see member.rs and envelope.rs. FF 13 10 opens the message, then come the length of the rest in
-- LEB128, a byte of flags, and the user behind its own length.

-- The user of a member.
local function user_of(member)
  local at = 5
  while member:byte(at) >= 128 do
    at = at + 1
  end
  at = at + 2
  local length, unit = 0, 1
  repeat
    local byte = member:byte(at)
    length = length + byte % 128 * unit
    unit = unit * 128
    at = at + 1
  until byte < 128
  return member:sub(at, at + length - 1)
end

-- Counts one client of a user less.
local function uncount(users, user)
  if redis.call('HINCRBY', users, user, -1) <= 0 then
    redis.call('HDEL', users, user)
  end
end
