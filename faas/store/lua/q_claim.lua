-- Idempotency keys of sync calls, in the same namespace as those of jobs. Keys and limits: q_lib.lua.
--
-- args  1 verb, 2 idempotency hash, 3 body hash, 4 id, then
--       claim   5 ms the claim lasts
--       settle  5 function, 6 state, 7 ms the call began; the result is ARGV[3]
--       drop    (nothing was done: the key is free again)
-- Returns for claim: {"new" | "busy" | "done" | "job" | "conflict", id of the first};
--       for the others 1, or 0 when the claim is no longer this call's
local verb, hash, body, id = unpack(args)
local key = P .. 'idem:' .. hash
local value = call('GET', key)
if verb == 'claim' then
  if not value then
    call('SET', key, body .. ' ' .. id .. ' s', 'PX', args[5])
    return {'new', id}
  end
  local known, owner, mode = string.match(value, '^(%S+) (%S+) (%S)')
  if known ~= body then return {'conflict', owner} end
  return {({a = 'job', s = 'busy', d = 'done'})[mode], owner}
end
if value ~= body .. ' ' .. id .. ' s' then return 0 end
if verb == 'drop' then
  call('DEL', key)
  return 1
end
local fn, state, began = args[5], args[6], args[7]
call('SET', key, body .. ' ' .. id .. ' d', 'PX', keep_ms)
call('SET', P .. 'r:' .. id, ARGV[3], 'PX', keep_ms)
call('HSET', meta(id), 'f', fn, 's', state, 'n', 1, 'm', 1, 'p', 1, 'e', began, 'b', began, 't', now, 'i', hash)
call('PEXPIRE', meta(id), keep_ms)
return 1
