-- Publishes what is not kept, if it is the first with its idempotency key.
-- KEYS: where the answer is. ARGV: channel, message, ttl of the answer in ms.
-- Answers as the first was answered; nothing in it, for there is no position.
local answered = redis.call('GET', KEYS[1])
if answered then
  return answered
end
redis.call(PUBLISH, ARGV[1], ARGV[2])
redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
return ''
