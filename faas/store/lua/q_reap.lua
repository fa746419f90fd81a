-- What nobody else would do: leases that ran out, delays that are over, jobs that are too old. Repeat at will.
-- Keys and limits: q_lib.lua.
--
-- args  1  a node that is known to be dead: all its leases end now; "" : leases past their time, of any node
--       2  most jobs to move
-- Returns {leases ended, jobs found too old, 1 when there may be more, ms to the next due or -1}
local dead_node, most = unpack(args)
local lost, old, more = 0, 0, 0

local function lose(id, node)
  call('ZREM', P .. 'lease:' .. node, id)
  local v = call('HMGET', meta(id), 's', 'l', 'f', 'z', 'i', 'u', 'n', 'm', 'o', 'b')
  if v[1] ~= 'running' or v[2] ~= node then return end
  lost = lost + 1
  local job = {f = v[3], z = tonumber(v[4]), i = v[5], u = v[6]}
  call('ZREM', P .. 'run:' .. job.f, id)
  job.u = record(id, job.u, cmsgpack.pack({number = tonumber(v[7]), node = node, started_ms = tonumber(v[10]),
    ended_ms = now, cause = 'node_lost'}))
  if has(job.u, 'c') then
    finish(id, job, 'cancelled', 'cancelled while it ran')
  elseif tonumber(v[7]) >= tonumber(v[8]) then
    finish(id, job, 'dead', 'node_lost: its node was lost in the last attempt')
  else
    wait_at(id, job.f, v[9])
  end
end

local function sweep(node, to)
  if most <= 0 then
    more = 1
    return
  end
  local key = P .. 'lease:' .. node
  local ids = call('ZRANGEBYSCORE', key, '-inf', to, 'LIMIT', 0, most)
  for _, id in ipairs(ids) do lose(id, node) end
  most = most - #ids
  if call('EXISTS', key) == 0 then call('SREM', P .. 'holders', node) end
end

-- The head of each lane of a function: within a lane the oldest come first.
local function age(fn)
  for lane = 0, 2 do
    local from, to = lane * LANE, '(' .. string.format('%.0f', (lane + 1) * LANE)
    while most > 0 do
      local id = call('ZRANGEBYSCORE', P .. 'w:' .. fn, from, to, 'LIMIT', 0, 1)[1]
      if not id then break end
      local v = call('HMGET', meta(id), 'x', 'z', 'i', 'u')
      if v[1] and tonumber(v[1]) > now then break end
      call('ZREM', P .. 'w:' .. fn, id)
      if v[1] then
        too_old(id, {f = fn, z = tonumber(v[2]), i = v[3], u = v[4]})
        old = old + 1
      end
      most = most - 1
    end
  end
  if call('EXISTS', P .. 'w:' .. fn) == 0 then call('ZREM', P .. 'ready', fn) end
end

if dead_node ~= '' then
  sweep(dead_node, '+inf')
else
  for _, node in ipairs(call('SMEMBERS', P .. 'holders')) do sweep(node, now) end
end
promote(most)
-- A window that moves with time, so that functions nobody serves are looked at too.
local functions = call('ZCARD', P .. 'ready')
if functions > 0 then
  local from = functions > 64 and now % functions or 0
  for _, fn in ipairs(call('ZRANGE', P .. 'ready', from, from + 63)) do age(fn) end
end
write_out()
return {lost, old, most <= 0 and 1 or more, next_due()}
