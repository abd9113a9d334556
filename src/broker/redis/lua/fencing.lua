-- Part of other scripts: checks whether a node may write to this partition.
--
-- The registry of a partition, a hash, holds
--   g       its generation: an id, replaced when Redis may have lost data
--   b, o    when the generation began, and 1 once it is open for publishing
--   k       1 once a node has joined that has a record of the earlier processes
--   p       when an expected node that is syncing last made progress
--   l       the last heartbeat
--   r, v    the run id of the server, the version of the key layout
--   u       a generation, a space, and the generation from which on its events are complete: all nodes of before have synced in each one since. While
--           the generation is not open, followed by ' ?'. Without it, that is the generation itself
--   j       1 once a node has joined that was registered in the generation before
--   y:PROC  a process that was registered in the generation before and has not yet synced in this one, or has forgotten sequences
--   s:PROC  a process that has synced in this generation, which is not open yet
--   z       when a node was last removed: what it has received is not known any more
--   n:NODE  the link number of a node that is registered: its last connection to Redis
--   e:NODE  when its lease ends, a space, and how long the lease is, in ms; in one partition only, the lease partition
--   d:NODE  when it was declared dead, until it is cleaned up; in the lease partition
--   c:NODE  the node that cleans up, a space, and the end of its claim
--   x:PROC  a process that is expected to sync in this generation
--
-- Each write carries the generation, the node and its link number. A write of an old link, of a node that was declared dead, or of an
-- earlier generation is rejected.

-- Runs a command. A key that has another type is deleted first, so that it can't block repairs.
local call_or_reset = function(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if not string.find(reply.err, 'WRONGTYPE') then error(reply.err) end
  redis.call('DEL', key)
  return redis.call(command, key, ...)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local may_write = function(registry, generation, node, link)
  local known = call_or_reset('HMGET', registry, 'g', 'n:' .. node)
  return known[1] == generation and known[2] == link
end
