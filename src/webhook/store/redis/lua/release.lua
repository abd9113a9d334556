-- Releases the webhook lease of an app's webhooks (see poll.lua).
--
-- KEYS  1 the registry (see fencing.lua), 2 the webhook lease
-- ARGV  1 the generation, 2 the node, 3 its link   4 the holder
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
if call_or_reset('GET', KEYS[2]) ~= ARGV[4] then return {'ok', now, 0} end
redis.call('DEL', KEYS[2])
return {'ok', now, 1}
