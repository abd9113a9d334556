// Signed-in users: events for them, who is online, and terminated connections.

import assert from 'node:assert/strict';

import { errorsOf, inState, settled } from './lib/clients.mjs';
import { APP } from './lib/server.mjs';
import { test } from './lib/stage.mjs';
import { inbox, within } from './lib/waiting.mjs';

test('a client signs in as the user of its session', async (stage) => {
  const { server, backend } = await stage.set();
  const pusher = await signedIn(stage, server, backend, 'ann');

  assert.deepEqual(pusher.user.user_data, { id: 'ann', user_info: { name: 'Ann' } });
});

test('Echo signs in', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const echo = stage.echo(server, { backend, user: 'ann' });
  const { pusher } = echo.connector;
  const heard = inbox('the event');
  pusher.user.bind('notice', heard);

  echo.connector.signin();
  await within(pusher.user.signinDonePromise, 'the sign-in');
  await settled(pusher);
  await sdk.sendToUser('ann', 'notice', 'welcome');

  assert.equal(await heard.next(), 'welcome');
});

test('an event for a user reaches all connections of this user, and nobody else', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const heard = {};
  for (const name of ['ann', 'ann again', 'bob']) {
    const pusher = await signedIn(stage, server, backend, name.split(' ')[0]);
    heard[name] = inbox(`an event for ${name}`);
    pusher.user.bind('notice', heard[name]);
    await settled(pusher);
  }

  await sdk.sendToUser('ann', 'notice', { text: 'for ann' });
  await sdk.sendToUser('bob', 'notice', { text: 'for bob' });

  assert.deepEqual(await heard.ann.next(), { text: 'for ann' });
  assert.deepEqual(await heard['ann again'].next(), { text: 'for ann' });
  assert.deepEqual(await heard.bob.next(), { text: 'for bob' });
});

test('another user\'s channel cannot be subscribed to', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const eve = await signedIn(stage, server, backend, 'eve');
  const [errors, leaked] = [errorsOf(eve), inbox('a leak')];
  eve.connection.bind('message', ({ event, channel }) => channel === '#server-to-user-ann' && leaked(event));

  // pusher-js does not send this by itself.
  eve.send_event('pusher:subscribe', { auth: '', channel: '#server-to-user-ann' });
  await errors.next();
  await sdk.sendToUser('ann', 'notice', 'private');

  await settled(eve);
  assert.deepEqual(leaked.all.filter((event) => event !== 'pusher:subscription_error'), []);
});

test('a wrong sign-in is rejected with an error, and the connection stays open', async (stage) => {
  const { server, backend } = await stage.set({}, {
    authenticate: () => ({ auth: `${APP.key}:${'0'.repeat(64)}`, user_data: '{"id":"ann"}' }),
  });
  const pusher = stage.pusher(server, { backend, user: 'ann' });
  const errors = errorsOf(pusher);
  await inState(pusher, 'connected');

  pusher.signin();

  assert.equal((await errors.next()).code, 4009);
  await settled(pusher);
  assert.equal(pusher.connection.state, 'connected');
  assert.equal(pusher.user.user_data, null);
});

test('after a lost connection the client signs in again by itself', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const relay = await stage.relay(server);
  const pusher = await signedIn(stage, relay, backend, 'ann');
  const [heard, again] = [inbox('the event'), inbox('the second sign-in')];
  pusher.user.bind('notice', heard);
  pusher.connection.bind('message', ({ event }) => event === 'pusher:signin_success' && again(event));

  relay.cut();
  await again.next();
  await settled(pusher);
  await sdk.sendToUser('ann', 'notice', 'welcome back');

  assert.equal(await heard.next(), 'welcome back');
});

test('a watchlist reports who is online, and who goes online and offline', async (stage) => {
  const watchlist = { ann: ['bob', 'eve'] };
  const { server, sdk } = await stage.set();
  const backend = await stage.backend(sdk, {
    authenticate: ({ user, socketId }) => sdk.authenticateUser(socketId, { id: user, watchlist: watchlist[user] ?? [] }),
  });
  const bob = await signedIn(stage, server, backend, 'bob');
  const [online, offline] = ['online', 'offline'].map((name) => inbox(name, ({ user_ids }) => user_ids));
  const ann = stage.pusher(server, { backend, user: 'ann' });
  ann.user.watchlist.bind('online', online);
  ann.user.watchlist.bind('offline', offline);
  ann.signin();

  assert.deepEqual(await online.next(), ['bob']);
  assert.deepEqual(await offline.next(), ['eve']);
  await signedIn(stage, server, backend, 'eve');
  assert.deepEqual(await online.next(), ['eve']);
  bob.disconnect();
  assert.deepEqual(await offline.next(), ['bob']);
});

test('a user whose connections are terminated is closed with 4009 and does not reconnect', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const door = await stage.relay(server);
  const [tab, otherTab] = [await signedIn(stage, door, backend, 'ann'), await signedIn(stage, door, backend, 'ann')];
  const bob = await signedIn(stage, server, backend, 'bob');
  const errors = [errorsOf(tab), errorsOf(otherTab)];

  assert.equal((await sdk.terminateUserConnections('ann')).status, 200);
  await Promise.all([inState(tab, 'disconnected'), inState(otherTab, 'disconnected')]);
  for (const heard of errors) assert.equal((await heard.next()).code, 4009);
  await stage.retryTimePasses(server);

  assert.equal(door.attempts.all.length, 2);
  assert.equal(tab.connection.state, 'disconnected');
  await settled(bob);
});

test('a user who is forced to reconnect signs in again', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const door = await stage.relay(server);
  const ann = await signedIn(stage, door, backend, 'ann');
  const [errors, again, before] = [errorsOf(ann), inbox('the second sign-in'), ann.connection.socket_id];
  ann.connection.bind('message', ({ event }) => event === 'pusher:signin_success' && again(event));

  assert.equal((await sdk.post({ path: '/users/ann/force_reconnect', body: {} })).status, 200);
  assert.equal((await errors.next()).code, 4200);
  await again.next();

  assert.notEqual(ann.connection.socket_id, before);
  assert.equal(door.attempts.all.length, 2);
});

test('terminating a user who is not connected is no error', async (stage) => {
  const { sdk } = await stage.set();

  assert.deepEqual(await (await sdk.terminateUserConnections('nobody')).json(), {});
});

/** A client that is signed in and receives the events of its user. */
async function signedIn(stage, server, backend, user) {
  const pusher = stage.pusher(server, { backend, user });
  pusher.signin();
  await within(pusher.user.signinDonePromise, `the sign-in of ${user}`);
  await settled(pusher);
  return pusher;
}
