-- Adds to the log of an app what a node has observed: all of it, once.
--
-- KEYS  1 the log, 2 its state, 3 the number of the last part that this process has added
-- ARGV  1 the number of this part   2 for how long that is remembered, in ms
--       then for each record: when it happened, in µs of the clock of the Redis that knows it, 0 for
--       now; the most bytes that the log may have with it; the record
@GUARD@
@LOG@
local last = redis.call('GET', KEYS[3])
if last and tonumber(last) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local was_empty = false
for at = 3, #ARGV, 3 do
  local when = ARGV[at] == '0' and now or ARGV[at]
  local is_first = add_to_log(KEYS[1], KEYS[2], {when .. ' ' .. ARGV[at + 2]}, tonumber(ARGV[at + 1]))
  was_empty = was_empty or is_first
end
return was_empty and 1 or 0
