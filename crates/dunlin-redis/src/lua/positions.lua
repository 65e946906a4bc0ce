-- KEYS: stream, meta and seed of each channel. ARGV: the server's name, and for each channel an
-- epoch in case there is none and meta's ttl in ms.
-- Answers the positions.
local positions = {}
for channel = 1, #KEYS / 3 do
  stream, meta, seed_key = KEYS[3 * channel - 2], KEYS[3 * channel - 1], KEYS[3 * channel]
  new_epoch, meta_ttl = ARGV[2 * channel], tonumber(ARGV[2 * channel + 1])
  local head, top = settle(true)
  positions[channel] = position(head, top)
end
return positions
