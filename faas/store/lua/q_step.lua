-- Keep the result of a step of a running job; the first one stays. Keys and limits: q_lib.lua.
--
-- args  1 id, 2 take, 3 name, 4 most steps, 5 most bytes of them all; the result is ARGV[3]
-- Returns {"ok", the result that is kept}, {"lost"} without that lease, {"full", "steps" or "bytes"}
local id, take, name, most, most_bytes = unpack(args)
local v = call('HMGET', meta(id), 's', 'k', 'u')
if v[1] ~= 'running' or tonumber(v[2]) ~= take then return {'lost'} end
local key = P .. 'st:' .. id
local known = call('HGET', key, name)
if known then return {'ok', known} end
if call('HLEN', key) >= most then return {'full', 'steps'} end
local bytes = tonumber(call('HGET', meta(id), 'sb') or 0) + #ARGV[3] + #name
if bytes > most_bytes then return {'full', 'bytes'} end
call('HSET', key, name, ARGV[3])
call('HSET', meta(id), 'sb', bytes)
flag(id, v[3], 'h')
return {'ok', ARGV[3]}
