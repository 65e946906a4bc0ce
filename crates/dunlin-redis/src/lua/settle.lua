-- Stands before every script that needs a channel's position.
-- KEYS: stream, meta. ARGV: the server's name, an epoch in case there is none, meta's ttl in ms.
--
-- meta: e epoch, o newest offset, q branch, r name of the server that wrote last, u when the ttls
-- are to be renewed, v and w newest version and its epoch, f<generation> "branch:first offset".
-- Epochs are eight bytes and never numbers here: Lua's numbers are exact up to 2^53 only.
local stream, meta = KEYS[1], KEYS[2]
local GENERATION, GENERATIONS_KEPT = 4294967296, 8

-- The channel's epoch, offset, branch and time of renewal. A channel that is new gets an epoch, and
-- one that another server wrote last a branch: what that server told subscribers and did not
-- replicate to this one is behind the branch's first offset.
local function settle()
  local known = redis.call('HMGET', meta, 'e', 'o', 'q', 'r', 'u')
  local run, epoch, offset, branch = ARGV[1], known[1], tonumber(known[2] or 0), known[3]
  if known[4] == run then
    return epoch, offset, branch, tonumber(known[5] or 0)
  end
  if run == '0' then
    error({err = 'NOPERM this user needs INFO: positions are safe only by the name of the server'})
  end
  if not epoch then
    epoch = ARGV[2]
    redis.call('DEL', stream)
  end
  local generation = math.floor(tonumber(branch or 0) / GENERATION) + 1
  branch = string.format('%.0f', generation * GENERATION + run)
  redis.call('HSET', meta, 'e', epoch, 'o', offset, 'q', branch, 'r', run,
    'f' .. generation, branch .. ':' .. offset + 1)
  redis.call('HDEL', meta, 'f' .. generation - GENERATIONS_KEPT)
  redis.call('PEXPIRE', meta, ARGV[3])
  return epoch, offset, branch, 0
end

-- As nodes write it: epoch, branch and offset, big endian.
local function position(epoch, branch, offset)
  return epoch .. struct.pack('>I8I8', branch, offset)
end
