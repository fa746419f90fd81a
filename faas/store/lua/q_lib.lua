-- What the moves of the queue share; comes before each of them.
--
-- KEYS  1  prefix of every key of the queue, with its tag, so that one slot holds them all:
--       m:ID      hash    the job's entry, small enough for the compact encoding; fields below
--       j:ID      string  its input; a success drops it
--       r:ID      string  its result, when it does not fit into the entry
--       a:ID      list    records of failed attempts, the last ones
--       st:ID     hash    results of steps
--       w:FN      zset    waiting, by lane (priority) and then time in microseconds
--       d:FN      zset    delayed, by the millisecond they become due
--       run:FN    zset    running, by the millisecond they began
--       e:STATE:FN zset   ended, by the millisecond they ended; STATE dead is the dead-letter queue
--       c:FN      hash    n unfinished jobs, b their bytes, s last service (us), t slots given out
--       app:APP   string  unfinished jobs of all functions of an app
--       ready     zset    functions with waiting jobs, by last service
--       due       zset    functions with delayed jobs, by the earliest
--       lease:NODE zset   what a node runs, by the millisecond the lease expires; holders: set of such nodes
--       idem:HASH string  "BODYHASH ID MODE"; MODE: a job, s sync call in flight, d sync call done
--       notice    zset    ended jobs whose end somebody wants to act on
-- ARGV  1  msgpack list: the limits, in the order below
--       2  msgpack list: arguments of the move
--       3+ blobs: inputs, results, records
-- Fields of m:ID  f function, s state, k times taken, n attempts begun, m most attempts, p lane 0-2, z bytes,
--       e accepted ms, o score when waiting, g max age ms, x too old at ms, l node, b begun ms, t ended ms,
--       q cause of the end, r small result, i idempotency hash,
--       u flags: c cancel asked, w somebody waits for the end, y put a notice, h has a:ID or st:ID
local P, call = KEYS[1], redis.call
local limits, args = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local keep_ms, dead_ms, ended_max, attempts_max, length_max, bytes_max, idle_ms = unpack(limits)
local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local LANE = 2e15 -- wider than any time in microseconds; three of them are still exact in a double
local INLINE = 64 -- longest value of a hash that Redis keeps in the compact encoding

local function app_of(fn) return string.match(fn, '^[^/]*') end

local function meta(id) return P .. 'm:' .. id end

local function flag(id, flags, letter)
  if string.find(flags or '', letter, 1, true) then return flags end
  flags = (flags or '') .. letter
  call('HSET', meta(id), 'u', flags)
  return flags
end

local function has(flags, letter) return flags and string.find(flags, letter, 1, true) end

local woken = {}
local function wake(fn)
  if woken[fn] then return end
  woken[fn] = true
  local served = call('HGET', P .. 'c:' .. fn, 's') or 0
  if call('ZADD', P .. 'ready', 'NX', served, fn) == 1 then call('PUBLISH', P .. 'bell', fn) end
end

local function wait_at(id, fn, score)
  call('HSET', meta(id), 's', 'waiting', 'o', score)
  call('ZADD', P .. 'w:' .. fn, score, id)
  wake(fn)
end

local function delay_until(id, fn, at)
  call('HSET', meta(id), 's', 'delayed')
  call('ZADD', P .. 'd:' .. fn, at, id)
  if call('ZADD', P .. 'due', 'LT', 'CH', at, fn) == 1 then call('PUBLISH', P .. 'bell', fn) end
end

-- What many jobs of one move have in common is written once a key and not once a job: half of Redis' time.
-- Every move that ends jobs or leases calls write_out last, and before it looks at what is held back here.
local removals, additions, unlinks = {}, {}, {}
local counts, indexes = {}, {}

local function into(lists, key, ...)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  for _, value in ipairs({...}) do list[#list + 1] = value end
end

local function unlease(id, fn, node)
  into(removals, P .. 'run:' .. fn, id)
  into(removals, P .. 'lease:' .. node, id)
end

local function count(fn, jobs, bytes)
  local entry = counts[fn] or {0, 0}
  counts[fn] = {entry[1] + jobs, entry[2] + bytes}
end

local function write_out()
  for key, members in pairs(removals) do call('ZREM', key, unpack(members)) end
  for key, members in pairs(additions) do call('ZADD', key, unpack(members)) end
  if #unlinks > 0 then call('UNLINK', unpack(unlinks)) end
  for fn, change in pairs(counts) do
    local c = P .. 'c:' .. fn
    local n = call('HINCRBY', c, 'n', change[1])
    call('HINCRBY', c, 'b', change[2])
    local of_app = P .. 'app:' .. app_of(fn)
    if call('INCRBY', of_app, change[1]) <= 0 then call('DEL', of_app) end
    if n <= 0 then
      call('PEXPIRE', c, idle_ms)
    elseif n == change[1] then
      call('PERSIST', c)
    end
  end
  for index, ttl in pairs(indexes) do
    call('ZREMRANGEBYSCORE', index, '-inf', now - ttl)
    call('ZREMRANGEBYRANK', index, 0, -ended_max - 1)
    call('PEXPIRE', index, ttl)
  end
  removals, additions, unlinks, counts, indexes = {}, {}, {}, {}, {}
end

-- job: f, z, i, u as in the entry. The caller has taken it out of w:, d: or run: before.
local function finish(id, job, state, cause, result)
  local m, ttl = meta(id), state == 'dead' and dead_ms or keep_ms
  if result and #result <= INLINE then
    call('HSET', m, 's', state, 't', now, 'r', result)
  else
    call('HSET', m, 's', state, 't', now)
    if result then call('SET', P .. 'r:' .. id, result, 'PX', ttl) end
  end
  if cause ~= '' then call('HSET', m, 'q', cause) end
  call('PEXPIRE', m, ttl)
  if state == 'succeeded' then
    unlinks[#unlinks + 1] = P .. 'j:' .. id
  else
    call('PEXPIRE', P .. 'j:' .. id, ttl)
  end
  if job.i then call('PEXPIRE', P .. 'idem:' .. job.i, keep_ms) end
  if has(job.u, 'h') then
    call('PEXPIRE', P .. 'a:' .. id, ttl)
    call('PEXPIRE', P .. 'st:' .. id, ttl)
  end
  local index = P .. 'e:' .. state .. ':' .. job.f
  into(additions, index, now, id)
  indexes[index] = ttl
  count(job.f, -1, -job.z)
  if has(job.u, 'y') then call('ZADD', P .. 'notice', now, id) end
  if has(job.u, 'w') then call('PUBLISH', P .. 'done', id) end
end

-- A key may have expired and been claimed by another job since.
local function owns(id, idem)
  local value = call('GET', P .. 'idem:' .. idem)
  return value and string.match(value, ' (%S+) ') == id
end

local function record(id, flags, blob)
  call('RPUSH', P .. 'a:' .. id, blob)
  call('LTRIM', P .. 'a:' .. id, -attempts_max, -1)
  return flag(id, flags, 'h')
end

local function next_due()
  local first = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  if not first[1] then return -1 end
  return math.max(0, tonumber(first[2]) - now)
end

-- Delayed jobs whose time has come start to wait, in the order they came due.
local function promote(most)
  for _, fn in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, 64)) do
    local d = P .. 'd:' .. fn
    local found = call('ZRANGEBYSCORE', d, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
    for i = 1, #found, 2 do
      local id = found[i]
      local lane = call('HGET', meta(id), 'p')
      call('ZREM', d, id)
      if lane then wait_at(id, fn, lane * LANE + found[i + 1] * 1000) end
    end
    most = most - #found / 2
    local first = call('ZRANGE', d, 0, 0, 'WITHSCORES')
    if first[1] then
      call('ZADD', P .. 'due', first[2], fn)
    else
      call('ZREM', P .. 'due', fn)
    end
    if most <= 0 then return end
  end
end

local function too_old(id, job)
  finish(id, job, 'dead', 'too old: it waited longer than max_age')
end
