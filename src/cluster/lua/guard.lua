-- Part of other scripts: who may write to this partition.
--
-- The registry of a partition, a hash, holds
--   g       its generation: an id, made anew when Redis has lost data
--   b, o    when the generation was born, and 1 once it is open for publishing
--   k       1 once a node has joined it that knows which others were there before
--   p       when a node that is still to arrive last made progress
--   l       the last heartbeat
--   r, v    the run id of the server, the version of the key layout
--   n:NODE  the link number of a node that is registered: its last connection to Redis
--   e:NODE  when its lease ends, a space, and how long the lease is, in ms; in the home partition only
--   d:NODE  when it was declared dead, while somebody cleans up after it; home partition
--   c:NODE  who cleans up, a space, and until when
--   x:PROC  a process that is still to arrive in this generation
--
-- A write names the generation, the node and the link: what an old link still carries, or a node that was declared dead, or what
-- is for a Redis that has lost its data since, is refused.
-- What others have put in the place of a key of ours is removed: it must not keep anything from being right.
local ours = function(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer.err) end
  redis.call('DEL', key)
  return redis.call(command, key, ...)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local may_write = function(registry, generation, node, link)
  local known = ours('HMGET', registry, 'g', 'n:' .. node)
  return known[1] == generation and known[2] == link
end
