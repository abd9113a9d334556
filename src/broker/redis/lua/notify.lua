-- Publishes a control message for all nodes, unless its deadline has passed.
--
-- KEYS  1 the registry (see fencing.lua)
-- ARGV  1 the generation, 2 the node, 3 its link   4 the deadline, in ms of this server's clock
--       5 the control channel   6 the message
@FENCING@
if tonumber(ARGV[4]) < now then return {'late', now} end
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
redis.call('@PUBLISH@', ARGV[5], ARGV[6])
return {'ok', now}
