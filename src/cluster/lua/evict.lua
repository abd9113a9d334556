-- Evicts the last event of a cache channel, unless it was replaced, and notifies the nodes.
--
-- KEYS  1 the topic's hash, which is the bus as well, 2 the last event
-- ARGV  1 the id of the event, as in its envelope   2 the same in hexadecimal digits
if redis.call('GETRANGE', KEYS[2], 2, 9) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('@PUBLISH@', KEYS[1], 'F ' .. ARGV[2])
return 1
