-- Ended jobs start from the beginning: dead, failed or cancelled ones. Keys and limits: q_lib.lua.
--
-- args  ids
-- Returns per id: "waiting", "unknown", "full", or the state that does not allow it
local replies = {}
local allowed = {dead = true, failed = true, cancelled = true}

local function again(i, id)
  local m = meta(id)
  local v = call('HMGET', m, 's', 'f', 'z', 'p', 'g', 'i', 'u')
  local state, fn, bytes = v[1], v[2], tonumber(v[3])
  if not state then return 'unknown' end
  if not allowed[state] then return state end
  if call('EXISTS', P .. 'j:' .. id) == 0 then return 'unknown' end
  local c, change = call('HMGET', P .. 'c:' .. fn, 'n', 'b'), counts[fn] or {0, 0}
  if (c[1] or 0) + change[1] + 1 > length_max or (c[2] or 0) + change[2] + bytes > bytes_max then return 'full' end

  call('ZREM', P .. 'e:' .. state .. ':' .. fn, id)
  call('ZREM', P .. 'notice', id)
  for _, kind in ipairs({'m:', 'j:', 'a:', 'st:'}) do call('PERSIST', P .. kind .. id) end
  call('UNLINK', P .. 'r:' .. id)
  call('HDEL', m, 'q', 't', 'r', 'l', 'b')
  call('HSET', m, 'n', 0, 'x', now + v[5], 'u', (string.gsub(v[7] or '', '[cw]', '')))
  if v[6] and owns(id, v[6]) then call('PEXPIRE', P .. 'idem:' .. v[6], v[5] + keep_ms) end
  wait_at(id, fn, v[4] * LANE + now_us + i)
  count(fn, 1, bytes)
  return 'waiting'
end

for i, id in ipairs(args) do replies[i] = again(i, id) end
write_out()
return replies
