-- A node's turn: say how its attempts ended, and take what it has room for. Keys and limits: q_lib.lua.
--
-- args  1  outcomes, each {id, take, verb, cause, after ms, result, record}; result and record are indexes of blobs in
--          ARGV, counted from 3, or 0. verb: succeeded | failed | dead | cancelled; retry; back (it had not begun)
--       2  false, or what to take: {node, lease ms, most, most bytes, room for functions that are not named,
--          {fn: room}, {fn: most in flight on all nodes}}
-- Returns {{1 | 0 per outcome, 0: the lease was lost and nothing happened}, jobs, more, ms to the next due or -1};
--       a job: {id, fn, take, attempt, accepted ms, most attempts, too old at ms, flags, input}; more: 1 when
--       another take might find work at once.
local LOW_EVERY, NORMAL_EVERY = 16, 5 -- slots of a function given to a lower lane while a higher one waits
local SCAN = 1024 -- functions looked at in one take

local function blob(index) return index > 0 and ARGV[2 + index] or nil end

local function retry(id, job, cause, after)
  local v = call('HMGET', meta(id), 'n', 'm', 'x', 'p')
  local at = now + after
  if has(job.u, 'c') then
    return finish(id, job, 'cancelled', 'cancelled while it ran')
  elseif tonumber(v[1]) >= tonumber(v[2]) then
    return finish(id, job, 'dead', cause)
  elseif at >= tonumber(v[3]) then
    return finish(id, job, 'dead', 'too old for another attempt: ' .. cause)
  elseif after > 0 then
    return delay_until(id, job.f, at)
  end
  return wait_at(id, job.f, v[4] * LANE + now_us)
end

local function give_back(id, job)
  if has(job.u, 'c') then return finish(id, job, 'cancelled', 'cancelled before it began') end
  local score = call('HGET', meta(id), 'o')
  call('HINCRBY', meta(id), 'n', -1)
  wait_at(id, job.f, score)
end

local function settle(outcome)
  local id, take, verb, cause, after, result, attempt = unpack(outcome)
  local v = call('HMGET', meta(id), 's', 'k', 'f', 'l', 'z', 'i', 'u')
  if v[1] ~= 'running' or tonumber(v[2]) ~= take then return 0 end
  local job = {f = v[3], z = tonumber(v[5]), i = v[6], u = v[7]}
  unlease(id, job.f, v[4])
  if attempt > 0 then job.u = record(id, job.u, blob(attempt)) end
  if verb == 'retry' then
    retry(id, job, cause, after)
  elseif verb == 'back' then
    give_back(id, job)
  else
    finish(id, job, verb, cause, blob(result))
  end
  return 1
end

-- The next `most` ids of a function. Lanes are served highest first, but of LOW_EVERY slots one is low's.
local function pick(fn, most)
  local w = P .. 'w:' .. fn
  local ids = call('ZRANGE', w, 0, most - 1, 'WITHSCORES')
  local picked = {}
  for i = 1, #ids, 2 do picked[#picked + 1] = ids[i] end
  if #picked == 0 then return picked end
  local last = call('ZRANGE', w, -1, -1, 'WITHSCORES')
  if math.floor(ids[2] / LANE) == math.floor(last[2] / LANE) then return picked end

  local given = tonumber(call('HGET', P .. 'c:' .. fn, 't') or 0)
  call('HSET', P .. 'c:' .. fn, 't', (given + #picked) % 80)
  local seen, chosen = {}, {}
  local function reserve(every, lane)
    local share = math.floor((given + #picked) / every) - math.floor(given / every)
    if share == 0 then return end
    local from, to = lane * LANE, '(' .. string.format('%.0f', (lane + 1) * LANE)
    for _, id in ipairs(call('ZRANGEBYSCORE', w, from, to, 'LIMIT', 0, share)) do
      if #chosen >= #picked then return end
      seen[id] = true
      chosen[#chosen + 1] = id
    end
  end
  reserve(LOW_EVERY, 2)
  reserve(NORMAL_EVERY, 1)
  for _, id in ipairs(picked) do
    if #chosen >= #picked then break end
    if not seen[id] then chosen[#chosen + 1] = id end
  end
  return chosen
end

local jobs, inputs, spent = {}, {}, 0

-- Give up to `most` jobs of a function to the node. Returns how many, and whether it stopped for bytes.
local function serve(fn, most, want)
  local w, leave, leases, runs = P .. 'w:' .. fn, {}, {}, {}
  local served, full = 0, false
  for _, id in ipairs(pick(fn, most)) do
    local m = meta(id)
    local v = call('HMGET', m, 'k', 'n', 'm', 'x', 'z', 'i', 'u', 'e')
    local bytes = tonumber(v[5] or 0)
    if #jobs > 0 and spent + bytes > want.bytes then
      full = true
      break
    end
    leave[#leave + 1] = id
    if v[4] and tonumber(v[4]) <= now then
      too_old(id, {f = fn, z = bytes, i = v[6], u = v[7]})
    elseif v[4] then
      local take, attempt = (v[1] or 0) + 1, (v[2] or 0) + 1
      call('HSET', m, 's', 'running', 'k', take, 'n', attempt, 'l', want.node, 'b', now)
      leases[#leases + 1], leases[#leases + 2] = now + want.lease, id
      runs[#runs + 1], runs[#runs + 2] = now, id
      spent, served = spent + bytes, served + 1
      jobs[#jobs + 1] = {id, fn, take, attempt, tonumber(v[8]), tonumber(v[3]), tonumber(v[4]), v[7] or ''}
      inputs[#inputs + 1] = P .. 'j:' .. id
    end
  end
  if #leave > 0 then call('ZREM', w, unpack(leave)) end
  if served > 0 then
    call('ZADD', P .. 'lease:' .. want.node, unpack(leases))
    call('ZADD', P .. 'run:' .. fn, unpack(runs))
    call('HSET', P .. 'c:' .. fn, 's', now_us)
  end
  if call('EXISTS', w) == 0 then
    call('ZREM', P .. 'ready', fn)
  elseif served > 0 then
    call('ZADD', P .. 'ready', now_us, fn)
  end
  return served, full, #leave
end

-- Functions with work and room, least recently served first: {fn, how many it may have}.
local function candidates(want)
  local found = {}
  for _, fn in ipairs(call('ZRANGE', P .. 'ready', 0, SCAN - 1)) do
    local may = want.rooms[fn] or want.each
    local limit = want.limits[fn]
    if may > 0 and limit then may = math.min(may, limit - call('ZCARD', P .. 'run:' .. fn)) end
    if may > 0 then found[#found + 1] = {fn, may} end
    if #found >= want.most then break end
  end
  return found
end

-- Everybody in turn gets an equal share of what is left; who wants less leaves it to the next round.
local function take(want)
  local left, again = want.most, candidates(want)
  local looked = 0
  while left > 0 and #again > 0 and looked < 4 * want.most do
    local list, share = again, math.ceil(left / #again)
    again = {}
    for _, one in ipairs(list) do
      local may = math.min(share, one[2], left)
      if may <= 0 then return 1 end
      local served, full, gone = serve(one[1], may, want)
      if full then return 1 end
      left, looked = left - served, looked + gone
      if gone == may and one[2] > served then again[#again + 1] = {one[1], one[2] - served} end
    end
  end
  return #again > 0 and 1 or 0
end

local settled, more = {}, 0
for i, outcome in ipairs(args[1]) do settled[i] = settle(outcome) end
if args[2] then
  local w = args[2]
  write_out()
  promote(256)
  more = take({node = w[1], lease = w[2], most = w[3], bytes = w[4], each = w[5], rooms = w[6], limits = w[7]})
  if #jobs > 0 then
    call('SADD', P .. 'holders', w[1])
    for i, input in ipairs(call('MGET', unpack(inputs))) do jobs[i][9] = input end
  end
end
write_out()
return {settled, jobs, more, next_due()}
