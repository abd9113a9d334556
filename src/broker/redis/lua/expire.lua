-- Ends the registration of a node whose lease has expired, so that its contributions can be removed.
--
-- KEYS  1 the registry (see fencing.lua), 2 the topics of the expired node
-- ARGV  1 the generation, 2 the calling node, 3 its link   4 the expired node
--       5 `claim` in the lease partition, first; `fence` in each other; `drop` removes the listed topics;
--         `done` in the lease partition, last
--       6 the duration of a claim, in ms   then, with `drop`, topics
-- Returns 1 if it was done.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local registry, node, phase = KEYS[1], ARGV[4], ARGV[5]
local is_registered = redis.call('HEXISTS', registry, 'n:' .. node) == 1
if phase == 'claim' then
  local lease = redis.call('HGET', registry, 'e:' .. node)
  local lease_end_ms = lease and string.match(lease, '^(%-?%d+) ')
  -- A process may expire its own earlier names.
  local is_own = string.match(node, '^[^.]*') == string.match(ARGV[2], '^[^.]*') and node ~= ARGV[2]
  if is_registered and lease_end_ms and now < tonumber(lease_end_ms) and not is_own then return {'ok', now, 0} end
  local holder, claim_end_ms = string.match(redis.call('HGET', registry, 'c:' .. node) or '', '^(%S+) (%d+)$')
  if holder and holder ~= ARGV[2] and now < tonumber(claim_end_ms) and tonumber(claim_end_ms) <= now + ARGV[6] then return {'ok', now, 0} end
  redis.call('HSET', registry, 'd:' .. node, now, 'c:' .. node, string.format('%s %.0f', ARGV[2], now + ARGV[6]))
end
if phase == 'claim' or phase == 'fence' then 
  redis.call('HDEL', registry, 'n:' .. node, 'e:' .. node)
  redis.call('HSET', registry, 'z', now)
end
if phase == 'drop' and not is_registered then
  for at = 7, #ARGV do call_or_reset('SREM', KEYS[2], ARGV[at]) end
end
if phase == 'done' and call_or_reset('SCARD', KEYS[2]) == 0 then redis.call('HDEL', registry, 'd:' .. node, 'c:' .. node) end
return {'ok', now, 1}
