-- Note that bundles were asked for, those that are known.
--
-- KEYS  1  codes   sorted set: digest -> milliseconds
-- ARGV  digests
-- Returns the known ones.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = {}
for _, digest in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], digest) then
    redis.call('ZADD', KEYS[1], now, digest)
    known[#known + 1] = digest
  end
end
return known
