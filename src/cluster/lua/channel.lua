-- What there is to say of one channel.
--
-- KEYS  1 the topic's hash, 2 where a cache channel's last event lies
-- ARGV  1 1 if the members are wanted
local head = redis.call('HMGET', KEYS[1], 't', 'c')
local members = {}
if ARGV[1] == '1' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'm:' then members[#members + 1] = string.sub(field, 3) end
  end
end
local cached = redis.call('GET', KEYS[2])
return {
  tonumber(head[1] or 0), tonumber(head[2] or 0), members, cached or '',
  cached and redis.call('PTTL', KEYS[2]) or 0,
}
