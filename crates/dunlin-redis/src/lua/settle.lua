-- Stands before every script that needs a channel's position.
-- KEYS: stream, meta. ARGV: the server's name, an epoch in case there is none, meta's ttl in ms.
--
-- meta: h epoch and branch of eight bytes each, o newest offset, q branch in digits, v and w newest
-- version and its epoch, f<generation> "branch:first offset". An epoch is never a number here:
-- Lua's numbers are exact up to 2^53 only.
local stream, meta = KEYS[1], KEYS[2]
local GENERATION, GENERATIONS_KEPT = 4294967296, 8
local UNUSED_KEPT_MS = 3600000

-- The channel's epoch and branch, its offset, and the branch in digits. A channel that is new gets
-- an epoch, and one that another server wrote last a branch: what that server told subscribers and
-- did not replicate to this one is behind the branch's first offset.
local function settle()
  local known = redis.call('HMGET', meta, 'h', 'o', 'q')
  local head, offset, branch = known[1], tonumber(known[2] or 0), known[3]
  local ttl = tonumber(ARGV[3])
  if offset == 0 then
    -- Whoever may ask for channels must not fill the memory with names. What is published sets the
    -- ttl anew.
    ttl = math.min(ttl, UNUSED_KEPT_MS)
  end
  if head and branch % GENERATION == tonumber(ARGV[1]) then
    if offset == 0 then
      redis.call('PEXPIRE', meta, ttl)
    end
    return head, offset, branch
  end
  if ARGV[1] == '0' then
    error({err = 'NOPERM this user needs INFO: positions are safe only by the name of the server'})
  end
  if not head then
    head = ARGV[2]
    redis.call('DEL', stream)
  end
  local generation = math.floor((branch or 0) / GENERATION) + 1
  branch = string.format('%.0f', generation * GENERATION + ARGV[1])
  head = head:sub(1, 8) .. struct.pack('>I8', branch)
  redis.call('HSET', meta, 'h', head, 'o', offset, 'q', branch,
    'f' .. generation, branch .. ':' .. offset + 1)
  redis.call('HDEL', meta, 'f' .. generation - GENERATIONS_KEPT)
  redis.call('PEXPIRE', meta, ttl)
  return head, offset, branch
end

-- As nodes read it: epoch, branch and offset, big endian.
local function position(head, offset)
  return head .. struct.pack('>I8', offset)
end
