-- Ends the turn of the node that tells what happens in an app.
--
-- KEYS  1 who tells
-- ARGV  1 the turn
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
