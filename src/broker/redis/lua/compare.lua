-- Compares what a node holds with what Redis holds of some topics of a partition.
--
-- KEYS  1 the registry (see guard.lua), 2 the topics of the node, then for each topic: its hash (see sync.lua), the index that lists
--       it, or the hash again if there is none
-- ARGV  1 the generation, 2 the node, 3 its link
--       then for each topic: its field in the index, the node's part of the total, the number of the node's users
-- Returns for each topic its epoch, version and sequence, and 1 if it differs or is inconsistent; then the registered nodes.
@GUARD@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'other', now} end
local registry, topics, node = KEYS[1], KEYS[2], ARGV[2]
local registered, names, reply = {}, {}, {'ok', now}
redis.call('PEXPIRE', topics, @LIST_MS@)
for _, field in ipairs(redis.call('HKEYS', registry)) do
  if string.sub(field, 1, 2) == 'n:' then
    names[#names + 1] = string.sub(field, 3)
    registered[string.sub(field, 3)] = true
  end
end
for topic = 1, #KEYS / 2 - 1 do
  local key, index = KEYS[2 * topic + 1], KEYS[2 * topic + 2]
  local field, mine, users = ARGV[3 * topic + 1], tonumber(ARGV[3 * topic + 2]), tonumber(ARGV[3 * topic + 3])
  local head = ours('HMGET', key, 'e', 'v', 's', 't', 'c', 'n:' .. node)
  local total, count = tonumber(head[4] or 0), tonumber(head[5] or 0)
  local is_ours = mine > 0 or users > 0
  local is_wrong = tonumber(head[6] or 0) ~= mine or (ours('SISMEMBER', topics, key) == 1) ~= is_ours
  if not is_wrong and head[1] then
    local own, members, parts, of_users, known = 0, 0, {}, {}, {}
    for _, name in ipairs(redis.call('HKEYS', key)) do
      local kind = string.sub(name, 1, 2)
      if kind == 'n:' then
        parts[#parts + 1] = name
        if not registered[string.sub(name, 3)] then is_wrong = true end
      elseif kind == 'm:' then
        members = members + 1
        known[string.sub(name, 3)] = true
      elseif kind == 'u:' then
        local by, user = string.match(name, '^u:([^:]+):(.*)$')
        if not by or not registered[by] then is_wrong = true end
        if by == node then own = own + 1 end
        of_users[#of_users + 1] = user
      end
    end
    local with_node = {}
    for _, user in ipairs(of_users) do
      if not known[user] then is_wrong = true end
      with_node[user] = true
    end
    for user in pairs(known) do
      if not with_node[user] then is_wrong = true end
    end
    local sum = 0
    for _, name in ipairs(parts) do sum = sum + (tonumber(redis.call('HGET', key, name)) or 0) end
    is_wrong = is_wrong or own ~= users or members ~= count or sum ~= total
  end
  if not is_wrong and index ~= key then
    local entry = ours('HGET', index, field)
    if total > 0 then is_wrong = entry ~= total .. ' ' .. count else is_wrong = entry and true or false end
  end
  reply[#reply + 1] = head[1] or ''
  reply[#reply + 1] = tonumber(head[2] or 0)
  reply[#reply + 1] = tonumber(head[3] or 0)
  reply[#reply + 1] = is_wrong and 1 or 0
end
reply[#reply + 1] = names
return reply
