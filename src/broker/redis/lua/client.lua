-- Maintains the record of a client with a token: where it is connected, or what its last connection has left.
--
-- KEYS  1 the registry (see fencing.lua), 2 the record
-- ARGV  1 the generation, 2 the node, 3 its link   4 the operation   5 the place of a connection: its process, a dot and a number that the
--       process uses once; with `find` empty   6 the client's socket id, as a number; with `find` and `forget` empty
--       with `park`: 7 how long ago the connection was lost, in ms, 8 the session
--
-- A record is a text of words:
--   C PLACE SOCKET_ID RESTED BEFORE           a connection at this place; BEFORE is the record that it has replaced, if there was one
--   P PLACE SOCKET_ID RESTED LOST SESSION     the connection at this place was lost at LOST, in ms of this server's clock
-- RESTED is when as many takeovers of living connections are allowed again as ever, in ms: each moves it by @TAKEOVER_MS@.
--
-- Operations and what they return after the status:
--   find    the socket id, empty for no record, and 1 if the client's living connections are taken over too often
--   claim   the letter of the record before, empty for none, R if it has another socket id; its place; for P how long ago the connection
--           was lost, in ms, and the session. Unless R, the record names the new place now
--   adopt   as claim, with any socket id in the record
--   park    the place of a connection that has claimed the client since, or empty: then the session was stored
--   renew   as park: the record of a living connection was made again or lives longer
--   forget  nothing: the record was deleted if it is of the place
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local key, operation, place, socket_id = KEYS[2], ARGV[4], ARGV[5], ARGV[6]
local record = call_or_reset('GET', key) or ''
local RECORD = '^(%u) (%S+) (%d+) (%d+) ?(.*)$'
local kind, known_place, known_socket_id, rested, rest = string.match(record, RECORD)
rested = tonumber(rested or 0)
local set = function(letter, of_place, of_socket_id, more)
  local words = {letter, of_place, of_socket_id, string.format('%.0f', rested)}
  if more and more ~= '' then words[5] = more end
  redis.call('SET', key, table.concat(words, ' '), 'PX', @CLIENT_RECORD_MS@)
end
if operation == 'find' then
  local is_shared = 0
  if kind == 'C' then
    rested = math.max(rested, now) + @TAKEOVER_MS@
    if rested - now > @TAKEOVERS@ * @TAKEOVER_MS@ then
      is_shared = 1
    else
      set(kind, known_place, known_socket_id, rest)
    end
  end
  return {'ok', now, known_socket_id or '', is_shared}
end
if operation == 'claim' or operation == 'adopt' then
  if known_place == place then
    -- Its reply was lost: the same again.
    kind, known_place, known_socket_id, rested, rest = string.match(rest, RECORD)
  else
    if kind and known_socket_id ~= socket_id and operation == 'claim' then return {'ok', now, 'R', '', 0, ''} end
    set('C', place, socket_id, kind == 'C' and table.concat({'C', known_place, known_socket_id, 0}, ' ') or record)
  end
  if kind ~= 'P' then return {'ok', now, kind or '', known_place or '', 0, ''} end
  local lost, session = string.match(rest, '^(%d+) (.*)$')
  return {'ok', now, kind, known_place, math.max(0, now - tonumber(lost or now)), session or ''}
end
if kind and known_place ~= place then
  return {'ok', now, operation ~= 'forget' and kind == 'C' and known_place or ''}
end
if operation == 'park' then
  set('P', place, socket_id, string.format('%.0f', now - tonumber(ARGV[7])) .. ' ' .. ARGV[8])
elseif operation == 'renew' then
  -- A repeated claim needs what the connection has replaced.
  set('C', place, socket_id, kind and rest)
else
  redis.call('DEL', key)
end
return {'ok', now, ''}
