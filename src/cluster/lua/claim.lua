-- Makes one node the one that cleans up after another, whose lease has ended.
--
-- KEYS  1 leases, 2 who cleans up after that node
-- ARGV  1 the dead node, 2 the node that asks, 3 for how long it may, in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not ends or tonumber(ends) > now then return 0 end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
