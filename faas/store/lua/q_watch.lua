-- Ask to be told of a job's end on the channel `done`. Keys and limits: q_lib.lua.
--
-- args  1 id
-- Returns the state, or false for an unknown job; after a live state its end will be announced
local id = args[1]
local v = call('HMGET', meta(id), 's', 'u')
if v[1] == 'waiting' or v[1] == 'delayed' or v[1] == 'running' then flag(id, v[2], 'w') end
return v[1]
