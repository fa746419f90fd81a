-- Keep a bundle and note that it was asked for.
--
-- KEYS  1  codes   sorted set: digest -> milliseconds
--       2  code    string, absent when the bundle is too large to be kept here
-- ARGV  1  digest
--       2  content
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[2], 'NX') end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return 1
