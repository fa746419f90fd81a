-- Accept jobs. Keys and limits: q_lib.lua. Bounds hold per function over all unfinished jobs.
--
-- args  a list of jobs, each {id, fn, lane, most attempts, at ms (0: none), delay ms, max age ms,
--       idempotency hash or "", body hash, flags, bytes, most unfinished jobs of the app (0: any)};
--       the input of job i is ARGV[2 + i]
-- Returns one pair a job: {"ok", id}; {"duplicate", id of the first}; {"conflict", id of the first}: the same key
--       with another body; {"full", jobs or bytes that are unfinished, "length", "bytes" or "app"}
local replies, room, of_app = {}, {}, {}

local function refused(fn, bytes, quota)
  local used = room[fn]
  if not used then
    local c = call('HMGET', P .. 'c:' .. fn, 'n', 'b')
    used = {tonumber(c[1] or 0), tonumber(c[2] or 0)}
    room[fn] = used
  end
  if used[1] + 1 > length_max then return {'full', used[1], 'length'} end
  if used[2] + bytes > bytes_max then return {'full', used[2], 'bytes'} end
  if quota > 0 then
    local app = app_of(fn)
    local n = of_app[app] or tonumber(call('GET', P .. 'app:' .. app) or 0)
    if n + 1 > quota then return {'full', n, 'app'} end
    of_app[app] = n + 1
  end
  used[1], used[2] = used[1] + 1, used[2] + bytes
end

local function accept(i, job)
  local id, fn, lane, attempts, at, delay, age, key, body, flags, bytes, quota = unpack(job)
  local m = meta(id)
  if call('EXISTS', m) == 1 then return {'duplicate', id} end
  if key ~= '' then
    local first = call('GET', P .. 'idem:' .. key)
    if first then
      local known, owner = string.match(first, '^(%S+) (%S+)')
      return {known == body and 'duplicate' or 'conflict', owner}
    end
  end
  local no = refused(fn, bytes, quota)
  if no then return no end

  local due = at > 0 and at or now + delay
  local too_old_at = math.max(due, now) + age
  local score = lane * LANE + now_us + i -- + i: the order within a batch
  local later = due > now
  local fields = {'f', fn, 's', later and 'delayed' or 'waiting', 'm', attempts, 'p', lane, 'z', bytes, 'e', now,
    'g', age, 'x', too_old_at}
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if not later then add('o', score) end
  if flags ~= '' then add('u', flags) end
  if key ~= '' then
    add('i', key)
    call('SET', P .. 'idem:' .. key, body .. ' ' .. id .. ' a', 'PX', too_old_at - now + keep_ms)
  end
  call('HSET', m, unpack(fields))
  call('SET', P .. 'j:' .. id, ARGV[2 + i])
  if later then
    delay_until(id, fn, due)
  else
    call('ZADD', P .. 'w:' .. fn, score, id)
    wake(fn)
  end
  count(fn, 1, bytes)
  return {'ok', id}
end

for i, job in ipairs(args) do replies[i] = accept(i, job) end
write_out()
return replies
