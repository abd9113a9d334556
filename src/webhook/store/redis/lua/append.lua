-- Adds the events that a node has observed to the log of an app: all of them, once.
--
-- KEYS  1 the registry (see fencing.lua), 2 the log, 3 its state, 4 the number of the last part that this process has added
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of this part   5 how long that number is kept, in ms
--       then for each record: its time, in µs of the clock of the Redis where it happened, 0 for now;
--       the maximum bytes of the log including it; the record
@FENCING@
@LOG@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local last = redis.call('GET', KEYS[4])
if last and tonumber(last) >= tonumber(ARGV[4]) then return {'ok', now, 0} end
redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
local now_us = string.format('%.0f', time[1] * 1000000 + time[2])
local was_empty = false
for at = 6, #ARGV, 3 do
  local when = ARGV[at] == '0' and now_us or ARGV[at]
  local is_first = add_to_log(KEYS[2], KEYS[3], {when .. ' ' .. ARGV[at + 2]}, tonumber(ARGV[at + 1]))
  was_empty = was_empty or is_first
end
return {'ok', now, was_empty and 1 or 0}
