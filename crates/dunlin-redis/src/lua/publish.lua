-- Publishes and keeps, one or many of a channel.
-- KEYS beside settle's: with an idempotency key where its answer is. ARGV beside keep's: 8 whether it
-- was sent before, 9 how many, message and id of each; and on terms, when it is one: ttl of the
-- answer in ms, version, its epoch.
-- Answers the position of the first, or that of the one that stands for it and one byte more;
-- nothing if nobody can tell whether it happened.

local ENTRIES_SEARCHED, ENTRIES_AT_ONCE = 1024, 128
local INSTEAD = '='

-- Looks for a publication that was sent before. Its node sends in the order of its ids, so one that
-- is not there did not happen if the newest of its node is an older one; if a younger one is there
-- it comes too late, whether it happened or not. Returns its entry if it is there, and otherwise
-- whether it did not happen for sure and is in time.
local function find(id, top)
  local node, number = id:sub(1, 8), struct.unpack('>I8', id, 9)
  local from, seen, is_in_time = '+', 0, true
  while seen < ENTRIES_SEARCHED do
    local entries = redis.call('XREVRANGE', stream, from, '-', 'COUNT', ENTRIES_AT_ONCE)
    for _, entry in ipairs(entries) do
      local other = entry[2][4]
      if other == id then
        return entry[1], false
      end
      if other:sub(1, 8) == node then
        if struct.unpack('>I8', other, 9) < number then
          return nil, is_in_time
        end
        is_in_time = false
      end
      from = '(' .. entry[1]
    end
    seen = seen + #entries
    if #entries < ENTRIES_AT_ONCE then
      return nil, is_in_time and seen == top
    end
  end
  return nil, false
end

-- Whether the channel takes this version; versions are 64 bits and stay texts.
local function takes(version, version_epoch)
  local newest = redis.call('HMGET', meta, 'v', 'w')
  local have = newest[1]
  if have and newest[2] == version_epoch
    and (#version < #have or #version == #have and version <= have) then
    return false
  end
  redis.call('HSET', meta, 'v', version, 'w', version_epoch)
  return true
end

local FIRST = 10
local last = FIRST + 2 * (ARGV[9] - 1)
local answer_ttl, version, version_epoch = ARGV[last + 2], ARGV[last + 3], ARGV[last + 4]
local answer = KEYS[4]
local answered = answer and redis.call('GET', answer)
if answered then
  return answered .. INSTEAD
end

local head, offset, branch = settle()
if ARGV[8] == '1' then
  local entry, is_new = find(ARGV[FIRST + 1], offset)
  if entry then
    local entry_offset, entry_branch = entry:match('^(%d+)-(%d+)$')
    return position(head:sub(1, 8) .. struct.pack('>I8', entry_branch), entry_offset)
  end
  if not is_new then
    return false
  end
end

local published, instead
if version and version ~= '0' and not takes(version, version_epoch) then
  published, instead = position(head, offset), INSTEAD
else
  published = position(head, offset + 1)
  redis.call('HSET', meta, 'o', string.format('%d', offset + ARGV[9]))
  for at = FIRST, last, 2 do
    offset = offset + 1
    append(head, branch, offset, ARGV[at], ARGV[at + 1])
  end
  keep_on(offset - ARGV[9])
end
if answer then
  redis.call('SET', answer, published, 'PX', answer_ttl)
end
return instead and published .. instead or published
