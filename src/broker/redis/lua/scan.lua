-- Returns a page of the index of an app's channels.
--
-- KEYS  1 the registry (see fencing.lua), 2 the index
-- ARGV  1 the generation, 2 the node, 3 its link   4 the cursor   5 a pattern for names   6 about how many entries to visit
--       7 about how many bytes to return
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local cursor, visited, bytes, entries = ARGV[4], 0, 0, {}
repeat
  local page = redis.call('HSCAN', KEYS[2], cursor, 'MATCH', ARGV[5], 'COUNT', 100)
  cursor, visited = page[1], visited + 100
  for _, text in ipairs(page[2]) do
    entries[#entries + 1] = text
    bytes = bytes + #text
  end
until cursor == '0' or visited >= tonumber(ARGV[6]) or bytes >= tonumber(ARGV[7])
-- A cursor is valid only on the server that returned it: others hash by another seed.
local run = ''
if cursor ~= '0' or ARGV[4] ~= '0' then
  local info = redis.call('INFO', 'server')
  run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end
return {'ok', now, cursor, run, entries}
