// Connects the parts of the chat: the user's session, the connection, the room, the page.

import { get, post } from './api.mjs';
import { connect } from './realtime.mjs';
import { Room } from './room.mjs';
import { View } from './view.mjs';

const view = new View();
const config = await get('/config');
const me = config.me ?? await view.login(config.limits, (name) => post('/login', { name }));

const echo = connect(config.campanile, {
  onState: (state, words) => view.connection(state, words),
  onRefusal: (reason) => view.notice(reason, 'Connect again', () => echo.connector.pusher.connect()),
});

let room;

function choose(next) {
  room?.leave();
  room = new Room(echo, view, me, next, () => choose(next));
}

view.open(me, config.rooms, config.limits, {
  choose,
  say: (text) => room.say(text),
  write: (text) => room.writes(text),
  logout: async () => {
    echo.disconnect();
    await post('/logout', {});
    location.reload();
  },
});
choose(config.rooms[0]);
