-- Forget ended jobs at once. Keys and limits: q_lib.lua.
--
-- args  ids
-- Returns per id: "purged", "unknown", or the state of a job that has not ended
local replies = {}
local live = {waiting = true, delayed = true, running = true}
for i, id in ipairs(args) do
  local v = call('HMGET', meta(id), 's', 'f', 'i')
  if not v[1] or live[v[1]] then
    replies[i] = v[1] or 'unknown'
  else
    if v[2] then call('ZREM', P .. 'e:' .. v[1] .. ':' .. v[2], id) end
    call('ZREM', P .. 'notice', id)
    for _, kind in ipairs({'m:', 'j:', 'a:', 'st:', 'r:'}) do call('UNLINK', P .. kind .. id) end
    if v[3] and owns(id, v[3]) then call('UNLINK', P .. 'idem:' .. v[3]) end
    replies[i] = 'purged'
  end
end
return replies
