-- What changed in the registry after a position, with the values as they are now: one consistent cut.
--
-- KEYS  1  registry   hash
--       2  changes    stream
-- ARGV  1  position of the reader: id of the last entry it has seen, or 0-0
--       2  most entries worth following one by one
-- Returns {"same"}; {"changed", position, {field, value or false, ...}};
--      or {"reload"}: the reader's position is not in this history (trimmed, emptied, or another Redis).
local registry, changes = KEYS[1], KEYS[2]
local position, most = ARGV[1], tonumber(ARGV[2])

local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)
local newest = last[1] and last[1][1] or '0-0'
if newest == position then return {'same'} end

local entries = redis.call('XRANGE', changes, '(' .. position, '+', 'COUNT', most + 1)
if #entries == 0 or #entries > most then return {'reload'} end

local seen, reply, prev = {}, {}, position
for _, entry in ipairs(entries) do
  local body = entry[2]
  if body[2] ~= prev then return {'reload'} end
  prev = entry[1]
  for field in string.gmatch(body[4], '[^\n]+') do
    if not seen[field] then
      seen[field] = true
      reply[#reply + 1] = field
      reply[#reply + 1] = redis.call('HGET', registry, field)
    end
  end
end
return {'changed', prev, reply}
