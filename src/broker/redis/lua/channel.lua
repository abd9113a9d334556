-- Returns the state of one channel, or of an app's connections.
--
-- KEYS  1 the registry (see fencing.lua), 2 the topic's hash, 3 the cached event of a cache channel
-- ARGV  1 the generation, 2 the node, 3 its link   4 1 to include the ids of the members, 2 to include their infos, too
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local fields = redis.call('HMGET', KEYS[2], 't', 'c')
local ids, infos = {}, {}
if ARGV[4] == '1' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, 1, 2) == 'm:' then ids[#ids + 1] = string.sub(field, 3) end
  end
elseif ARGV[4] == '2' then
  local all = redis.call('HGETALL', KEYS[2])
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'm:' then
      ids[#ids + 1] = string.sub(all[at], 3)
      infos[#infos + 1] = string.match(all[at + 1], ' (.*)') or ''
    end
  end
end
local cached = redis.call('GET', KEYS[3])
return {
  'ok', now, tonumber(fields[1] or 0), tonumber(fields[2] or 0), ids, infos, cached or '',
  cached and redis.call('PTTL', KEYS[3]) or 0,
}
