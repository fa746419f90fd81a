-- Cancel jobs. Keys and limits: q_lib.lua.
--
-- args  ids
-- Returns per id: "cancelled" (it had not begun), "asked" (it runs; its node hears of it), "unknown",
--       or the state it has ended in
local replies = {}
for i, id in ipairs(args) do
  local v = call('HMGET', meta(id), 's', 'f', 'z', 'i', 'u')
  local state, fn = v[1], v[2]
  if not state then
    replies[i] = 'unknown'
  elseif state == 'running' then
    flag(id, v[5], 'c')
    call('PUBLISH', P .. 'cancel', id)
    replies[i] = 'asked'
  elseif state == 'waiting' or state == 'delayed' then
    local place, list = P .. 'w:' .. fn, 'ready'
    if state == 'delayed' then place, list = P .. 'd:' .. fn, 'due' end
    call('ZREM', place, id)
    if call('EXISTS', place) == 0 then call('ZREM', P .. list, fn) end
    finish(id, {f = fn, z = tonumber(v[3]), i = v[4], u = v[5]}, 'cancelled', 'cancelled before it began')
    replies[i] = 'cancelled'
  else
    replies[i] = state
  end
end
write_out()
return replies
