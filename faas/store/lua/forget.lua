-- Take versions out of a function's history, if its record is still the one the caller looked at.
--
-- KEYS  1  registry   hash   field -> "REVISION PAYLOAD"
--       2  history    hash   version number -> JSON
-- ARGV  1  field of the function's record
--       2  revision it was read at
--       3+ version numbers
-- Returns how many were removed, or -1: the record has changed, nothing was removed.
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value or string.match(value, '^(%d+) ') ~= ARGV[2] then return -1 end
local removed = 0
for i = 3, #ARGV do
  removed = removed + redis.call('HDEL', KEYS[2], ARGV[i])
end
return removed
