-- ARGV beside living's: 3 how many members at most.
-- Answers whether there are more, and what is known of each.
local answer = {0}

-- Appends as many of a node's members; there are more.
local function append_some(members, room)
  answer[1] = 1
  local cursor, seen = '0', {}
  while room > 0 do
    local page = redis.call('HSCAN', members, cursor, 'COUNT', room)
    cursor = page[1]
    for at = 1, #page[2], 2 do
      local client = page[2][at]
      if room > 0 and not seen[client] then
        seen[client] = true
        room = room - 1
        answer[#answer + 1] = page[2][at + 1]
      end
    end
    if cursor == '0' then
      return
    end
  end
end

local room = tonumber(ARGV[3])
for _, members in ipairs(living()) do
  local count = redis.call('HLEN', members)
  if count > room then
    append_some(members, room)
    break
  end
  for _, member in ipairs(redis.call('HVALS', members)) do
    answer[#answer + 1] = member
  end
  room = room - count
end
return answer
