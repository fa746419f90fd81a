-- Remove bundles, except those that were asked for lately.
--
-- KEYS  1  codes   sorted set: digest -> milliseconds
--       2+ code    string, one a digest
-- ARGV  1  milliseconds since it was last asked for that a bundle must have
--       2+ digests, in the order of the keys
-- Returns how many were removed.
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local removed = 0
for i = 2, #ARGV do
  local asked = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if asked and tonumber(asked) <= before then
    redis.call('UNLINK', KEYS[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    removed = removed + 1
  end
end
return removed
