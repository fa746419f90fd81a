-- Keep leases. Keys and limits: q_lib.lua.
--
-- args  1 node, 2 lease ms, 3 list of {id, take}
-- Returns per lease: 0 lost, 1 kept, 2 kept and somebody asked to cancel it
local node, lease, held = unpack(args)
local replies, kept = {}, {}
for i, one in ipairs(held) do
  local v = call('HMGET', meta(one[1]), 's', 'k', 'u')
  if v[1] == 'running' and tonumber(v[2]) == one[2] then
    kept[#kept + 1], kept[#kept + 2] = now + lease, one[1]
    replies[i] = has(v[3], 'c') and 2 or 1
  else
    replies[i] = 0
  end
end
-- XX: a lease lives where the take put it, even if a caller names another node.
if #kept > 0 then call('ZADD', P .. 'lease:' .. node, 'XX', unpack(kept)) end
return replies
