-- Forgets what is kept of a channel. KEYS: stream, meta.
-- The position stays, and the next publish sets the ttl of the new stream.
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'u')
return 1
