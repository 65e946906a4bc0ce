-- Answers how many members there are, and how many users they are.
local clients, users, seen = 0, 0, {}
for _, members in ipairs(living()) do
  clients = clients + #members
  for _, info in ipairs(members) do
    -- The user comes first, behind its length: see member.rs.
    local user = info:sub(5, 4 + struct.unpack('>I4', info))
    if not seen[user] then
      seen[user] = true
      users = users + 1
    end
  end
end
return {clients, users}
