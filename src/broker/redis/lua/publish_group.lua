-- Runs several publishes of one partition, each as publish.lua does: with its own deadline, its own events and its own reply. If one fails, the
-- others are carried out all the same.
--
-- KEYS  1 the registry (see fencing.lua); then for each publish its keys after the registry
-- ARGV  1 the generation, 2 the node, 3 its link; then for each publish the number of its keys, the number of its arguments, and the arguments,
--       from the deadline on
--
-- The reply has, after the status, the reply to each publish: that of publish.lua, or 'failed' and the text of the error.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
may_write = function() return true end
local publish = function(KEYS, ARGV)
@PUBLISHING@
end
local reply, key, argument = {'ok', now}, 2, 4
while ARGV[argument] do
  local last_key, last_argument = key + ARGV[argument] - 1, argument + 1 + ARGV[argument + 1]
  -- In the places of the registry, the node and its link is something else, which is not used any more.
  local keys, arguments = {unpack(KEYS, key - 1, last_key)}, {ARGV[1], unpack(ARGV, argument, last_argument)}
  local is_done, result = pcall(publish, keys, arguments)
  -- Some versions of Redis throw a table.
  if not is_done then result = {'failed', result.err or result} end
  reply[#reply + 1] = result
  key, argument = last_key + 1, last_argument + 1
end
return reply
