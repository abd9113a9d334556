-- Returns each key with its type, its time to live in ms and its content.
local state = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local read = {
    string = {'GETRANGE', key, 0, -1}, hash = {'HGETALL', key}, list = {'LRANGE', key, 0, -1}, set = {'SMEMBERS', key},
    zset = {'ZRANGE', key, 0, -1, 'WITHSCORES'}, stream = {'XRANGE', key, '-', '+'},
  }
  local content = redis.call(unpack(read[kind]))
  if kind == 'stream' then
    -- Each entry as one text.
    for at, entry in ipairs(content) do content[at] = entry[1] .. ' ' .. table.concat(entry[2], ' ') end
  end
  state[#state + 1] = {key, kind, redis.call('PTTL', key), content}
end
return state
