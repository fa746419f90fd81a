-- Change registry records together, or none of them, and announce it.
--
-- KEYS  1  registry   hash   field -> "REVISION PAYLOAD"
--       2  changes    stream one entry an apply: prev, fields
--       3+ histories  hash   version number -> JSON, named by index below
-- ARGV  1  longest the change stream may grow (about)
--       2  number of changes, then for each 4:  field, guard, action, payload
--            guard   revision the record was read at; 0: must not exist; *: whatever it is
--            action  put | del
--       .. number of versions, then for each 4: key index, number, JSON, field to name in a conflict
--       .. key indexes of histories to delete
-- Returns {"ok", entry id, high}, high: highest revision of any deleted record;
--      or {"conflict", field, revision found}. Versions are immutable: another content is a conflict.
local registry, changes = KEYS[1], KEYS[2]
local at = 2

local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function revision(field)
  local value = redis.call('HGET', registry, field)
  if not value then return 0 end
  return tonumber(string.match(value, '^(%d+) ')) or 0
end

-- Look at everything before touching anything: a script is atomic, but it cannot take back.
local puts, dels, fields = {}, {}, {}
for i = 1, tonumber(take()) do
  local field, guard, action, payload = take(), take(), take(), take()
  local found = revision(field)
  if guard ~= '*' and tonumber(guard) ~= found then
    return {'conflict', field, found}
  end
  fields[i] = field
  local list = action == 'put' and puts or dels
  list[#list + 1] = {field, found, payload}
end

local versions = {}
for i = 1, tonumber(take()) do
  local index, number, json, field = take(), take(), take(), take()
  local key = KEYS[tonumber(index)]
  local known = redis.call('HGET', key, number)
  if known and known ~= json then
    return {'conflict', field, 0}
  end
  versions[i] = {key, number, json}
end

-- Revisions of a name never repeat, not even after a delete: new records start above every deleted one.
local high = tonumber(redis.call('HGET', registry, 'high') or 0)
for _, change in ipairs(puts) do
  local base = change[2] > 0 and change[2] or high
  redis.call('HSET', registry, change[1], string.format('%d ', base + 1) .. change[3])
end
local raised = high
for _, change in ipairs(dels) do
  redis.call('HDEL', registry, change[1])
  if change[2] > raised then raised = change[2] end
end
if raised > high then
  redis.call('HSET', registry, 'high', string.format('%d', raised))
end

for _, version in ipairs(versions) do
  redis.call('HSET', version[1], version[2], version[3])
end
while at <= #ARGV do
  redis.call('DEL', KEYS[tonumber(take())])
end

local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)
local prev = last[1] and last[1][1] or '0-0'
local id = redis.call('XADD', changes, 'MAXLEN', '~', ARGV[1], '*',
  'prev', prev, 'fields', table.concat(fields, '\n'))
return {'ok', id, high}
