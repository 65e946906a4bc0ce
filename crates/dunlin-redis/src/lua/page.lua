-- Stands before every script that reads what is kept.

-- The offset up to which all is over, for the stream as a whole lives as long as its last entry;
-- and for how many ms the entry with this offset is kept yet.
local function keeping(offset)
  local now, over = now_ms(), 0
  for til, upto in (redis.call('HMGET', meta, 'x')[1] or ''):gmatch('(%d+):(%d+)') do
    if tonumber(til) <= now then
      over = tonumber(upto)
    elseif tonumber(upto) >= offset then
      return over, til - now
    end
  end
  return over, redis.call('PTTL', stream)
end

-- The entries that XRANGE or XREVRANGE finds, at most so many, and no more once they have so many
-- bytes. They are read in portions that likely fit: neither the answer nor the time that this
-- takes grows with what is kept.
local function page(command, from, to, count, bytes_max)
  local entries, bytes, portion = {}, 0, 1
  while #entries < count and bytes < bytes_max do
    portion = math.min(portion, count - #entries)
    local found = redis.call(command, stream, from, to, 'COUNT', portion)
    for _, entry in ipairs(found) do
      if bytes >= bytes_max then
        return entries
      end
      entries[#entries + 1] = entry
      bytes = bytes + #entry[2][2]
    end
    if #found < portion then
      return entries
    end
    from = '(' .. found[#found][1]
    local likely = math.ceil((bytes_max - bytes) * #entries / math.max(bytes, 1))
    portion = math.max(1, math.min(2 * portion, likely, 256))
  end
  return entries
end
