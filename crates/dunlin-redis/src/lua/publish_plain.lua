-- Publishes what is neither kept nor once, each by itself: one that is refused leaves the others.
-- KEYS: the key that never exists, so that only the primary of the slot does this, and none while
-- the slot moves. ARGV: channel and message of each.
-- Answers as EXEC answers a transaction of one write and these publishes.
local answers = {0}
for at = 1, #ARGV, 2 do
  answers[#answers + 1] = redis.pcall(PUBLISH, ARGV[at], ARGV[at + 1])
end
return answers
