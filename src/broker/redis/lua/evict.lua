-- Evicts the cached event of a cache channel, unless it was replaced, and notifies the nodes.
--
-- KEYS  1 the registry (see fencing.lua), 2 the topic's hash, which names the pub/sub channel as well, 3 the cached event
-- ARGV  1 the generation, 2 the node, 3 its link   4 the id of the event, as in its envelope   5 the same in hexadecimal digits
-- Returns 1 if it existed.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
if call_or_reset('GETRANGE', KEYS[3], 2, 9) ~= ARGV[4] then return {'ok', now, 0} end
redis.call('DEL', KEYS[3])
redis.call('@PUBLISH@', KEYS[2], 'F ' .. ARGV[5])
return {'ok', now, 1}
