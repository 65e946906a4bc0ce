-- Stands before every script that needs a channel's position.
-- KEYS: stream, meta, seed. ARGV: the server's name, an epoch in case there is none, meta's ttl in
-- ms.
--
-- meta: h epoch and branch of eight bytes each, o newest offset, q branch in digits, v and w newest
-- version and its epoch, f<generation> "branch:first offset", b the period in which it was made, x
-- "until:offset" in ms and how far what is kept until then goes. An epoch is never a number here:
-- Lua's numbers are exact up to 2^53 only.
local stream, meta, seed_key = KEYS[1], KEYS[2], KEYS[3]
local new_epoch, meta_ttl = ARGV[2], tonumber(ARGV[3])
local GENERATION, GENERATIONS_KEPT = 4294967296, 8

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A position is forgotten no sooner than two periods after the last publication. So whoever was
-- told of an unused channel in this or the last period missed no life of it.
local function period()
  return math.floor(now_ms() * 2 / meta_ttl)
end

-- The epoch that a channel has which nothing is kept of, so that questions need keep nothing. The
-- seed goes when the data goes; there is one of a partition.
local function derived(of_period)
  local seed = redis.call('GET', seed_key)
  if not seed then
    seed = new_epoch
    redis.call('SET', seed_key, seed)
  end
  local digits = redis.sha1hex(seed .. of_period .. meta):sub(1, 16)
  return (digits:gsub('%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- Begins a branch of this server behind an offset. Returns what `settle` does.
local function begin_branch(epoch, offset, branch)
  local generation = math.floor((branch or 0) / GENERATION) + 1
  branch = string.format('%.0f', generation * GENERATION + ARGV[1])
  local head = epoch .. struct.pack('>I8', branch)
  redis.call('HSET', meta, 'h', head, 'o', offset, 'q', branch,
    'f' .. generation, branch .. ':' .. offset + 1)
  redis.call('HDEL', meta, 'f' .. generation - GENERATIONS_KEPT)
  redis.call('PEXPIRE', meta, meta_ttl)
  return head, offset, branch
end

-- The channel's epoch and branch, its offset, and the branch in digits. A channel that is new gets
-- an epoch, which a question does not keep. One that another server wrote last gets a branch: what
-- that server told subscribers and did not replicate to this one is behind the branch's first
-- offset. A question begins none: until something is published, nodes may bring that back.
local function settle(is_question)
  local known = redis.call('HMGET', meta, 'h', 'o', 'q')
  local head, offset, branch = known[1], tonumber(known[2] or 0), known[3]
  if head and branch % GENERATION == tonumber(ARGV[1]) then
    return head, offset, branch
  end
  if ARGV[1] == '0' then
    error({err = 'NOPERM this user needs INFO: positions are safe only by the name of the server'})
  end
  if head then
    if is_question then
      return head, offset, branch
    end
    return begin_branch(head:sub(1, 8), offset, branch)
  end
  if redis.call('UNLINK', stream) > 0 then
    -- Somebody took the position away: the epoch that it had must not come again.
    return begin_branch(new_epoch, 0)
  end
  local this_period = period()
  local epoch = derived(this_period)
  if is_question then
    branch = string.format('%.0f', GENERATION + ARGV[1])
    return epoch .. struct.pack('>I8', branch), 0, branch
  end
  redis.call('HSET', meta, 'b', this_period)
  return begin_branch(epoch, 0)
end

-- As nodes read it: epoch, branch and offset, big endian.
local function position(head, offset)
  return head .. struct.pack('>I8', offset)
end
