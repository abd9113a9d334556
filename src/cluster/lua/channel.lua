-- What there is to say of one channel.
--
-- KEYS  1 the topic's hash, 2 where a cache channel's last event lies
-- ARGV  1 1 to include the ids of the members, 2 to include their infos as well
local head = redis.call('HMGET', KEYS[1], 't', 'c')
local ids, infos = {}, {}
if ARGV[1] == '1' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'm:' then ids[#ids + 1] = string.sub(field, 3) end
  end
elseif ARGV[1] == '2' then
  local all = redis.call('HGETALL', KEYS[1])
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'm:' then
      ids[#ids + 1] = string.sub(all[at], 3)
      infos[#infos + 1] = string.sub(all[at + 1], string.find(all[at + 1], ' ', 1, true) + 1)
    end
  end
end
local cached = redis.call('GET', KEYS[2])
return {
  tonumber(head[1] or 0), tonumber(head[2] or 0), ids, infos, cached or '',
  cached and redis.call('PTTL', KEYS[2]) or 0,
}
