-- Returns each key with its type, its time to live in ms and its content.
local state = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local read = {
    string = {'GETRANGE', key, 0, -1}, hash = {'HGETALL', key}, list = {'LRANGE', key, 0, -1}, set = {'SMEMBERS', key},
    zset = {'ZRANGE', key, 0, -1, 'WITHSCORES'},
  }
  state[#state + 1] = {key, kind, redis.call('PTTL', key), redis.call(unpack(read[kind]))}
end
return state
