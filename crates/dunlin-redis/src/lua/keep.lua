-- Stands before every script that keeps publications. ARGV beside settle's: 4 ttl in ms, 5 trim '='
-- or '~', 6 size, 7 channel.

-- Keeps a publication and publishes it.
local function append(head, branch, offset, message, id)
  local entry = string.format('%d-', offset) .. branch
  redis.call('XADD', stream, 'MAXLEN', ARGV[5], ARGV[6], entry, 'd', message, 'i', id)
  -- FF 14 00 opens a message with a position: see envelope.rs.
  redis.call(PUBLISH, ARGV[7], '\255\20\0' .. position(head, offset) .. message)
end

-- The ttl of a stream counts from its last entry: notes until when those before are kept.
local function note_kept(left_ms, offset)
  local now, notes = now_ms(), {}
  for til, upto in (redis.call('HMGET', meta, 'x')[1] or ''):gmatch('(%d+):(%d+)') do
    -- Of what is over the last one tells all.
    local at = tonumber(til) > now and #notes + 1 or 1
    notes[at] = til .. ':' .. upto
  end
  if left_ms > 0 then
    notes[#notes + 1] = string.format('%.0f:%.0f', now + left_ms, offset)
  end
  redis.call('HSET', meta, 'x', table.concat(notes, ' '))
end

-- Has what was appended behind an offset kept for its time.
local function keep_on(before)
  local left_ms = redis.call('PTTL', stream)
  if left_ms < tonumber(ARGV[4]) then
    note_kept(left_ms, before)
    -- Kept up to a tenth too long, so that the ttls need not be set every time.
    local slack = math.floor(math.min(ARGV[3], ARGV[4]) / 10)
    redis.call('PEXPIRE', stream, ARGV[4] + slack)
    redis.call('PEXPIRE', meta, ARGV[3] + slack)
  end
end
