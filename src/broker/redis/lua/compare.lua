-- Compares what a node holds with what Redis holds of some topics of a partition.
--
-- KEYS  1 the registry (see fencing.lua), 2 the topics of the node, then for each topic: its hash (see sync.lua), the index that lists
--       it, or the hash again if there is none
-- ARGV  1 the generation, 2 the node, 3 its link
--       then for each topic: its field in the index, the node's contribution to the total, the number of the node's users
-- Returns for each topic its epoch, version and sequence, and 1 if it differs or is inconsistent; then the registered nodes.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local registry, topics, node = KEYS[1], KEYS[2], ARGV[2]
local registered, names, reply = {}, {}, {'ok', now}
redis.call('PEXPIRE', topics, @TOPIC_LIST_TTL_MS@)
for _, field in ipairs(redis.call('HKEYS', registry)) do
  if string.sub(field, 1, 2) == 'n:' then
    names[#names + 1] = string.sub(field, 3)
    registered[string.sub(field, 3)] = true
  end
end
for topic = 1, #KEYS / 2 - 1 do
  local key, index = KEYS[2 * topic + 1], KEYS[2 * topic + 2]
  local field, own_total, users = ARGV[3 * topic + 1], tonumber(ARGV[3 * topic + 2]), tonumber(ARGV[3 * topic + 3])
  local fields = call_or_reset('HMGET', key, 'e', 'v', 's', 't', 'c', 'n:' .. node)
  local total, count = tonumber(fields[4] or 0), tonumber(fields[5] or 0)
  local is_listed_expected = own_total > 0 or users > 0
  local is_inconsistent = tonumber(fields[6] or 0) ~= own_total or (call_or_reset('SISMEMBER', topics, key) == 1) ~= is_listed_expected
  if not is_inconsistent and fields[1] then
    local own_users, members, node_fields, user_fields, members_seen = 0, 0, {}, {}, {}
    for _, name in ipairs(redis.call('HKEYS', key)) do
      local kind = string.sub(name, 1, 2)
      if kind == 'n:' then
        node_fields[#node_fields + 1] = name
        if not registered[string.sub(name, 3)] then is_inconsistent = true end
      elseif kind == 'm:' then
        members = members + 1
        members_seen[string.sub(name, 3)] = true
      elseif kind == 'u:' then
        local owner, user = string.match(name, '^u:([^:]+):(.*)$')
        if not owner or not registered[owner] then is_inconsistent = true end
        if owner == node then own_users = own_users + 1 end
        user_fields[#user_fields + 1] = user
      end
    end
    local users_with_node = {}
    for _, user in ipairs(user_fields) do
      if not members_seen[user] then is_inconsistent = true end
      users_with_node[user] = true
    end
    for user in pairs(members_seen) do
      if not users_with_node[user] then is_inconsistent = true end
    end
    local sum = 0
    for _, name in ipairs(node_fields) do sum = sum + (tonumber(redis.call('HGET', key, name)) or 0) end
    is_inconsistent = is_inconsistent or own_users ~= users or members ~= count or sum ~= total
  end
  if not is_inconsistent and index ~= key then
    local entry = call_or_reset('HGET', index, field)
    if total > 0 then is_inconsistent = entry ~= total .. ' ' .. count else is_inconsistent = entry and true or false end
  end
  reply[#reply + 1] = fields[1] or ''
  reply[#reply + 1] = tonumber(fields[2] or 0)
  reply[#reply + 1] = tonumber(fields[3] or 0)
  reply[#reply + 1] = is_inconsistent and 1 or 0
end
reply[#reply + 1] = names
return reply
