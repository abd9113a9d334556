// Connecting, staying connected, and reconnecting.

import assert from 'node:assert/strict';

import { errorsOf, inState, settled, subscribed } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

test('a client connects and receives a socket id of its own', async (stage) => {
  const server = await stage.server();
  const [ann, bob] = [stage.pusher(server), stage.pusher(server)];

  await Promise.all([inState(ann, 'connected'), inState(bob, 'connected')]);

  for (const { connection } of [ann, bob]) assert.match(connection.socket_id, /^\d+\.\d+$/);
  assert.notEqual(ann.connection.socket_id, bob.connection.socket_id);
});

test('Echo reports that it is connected, and its socket id', async (stage) => {
  const server = await stage.server();
  const echo = stage.echo(server);
  const status = inbox('a change of the connection');
  echo.connector.onConnectionChange(status);

  while ((await status.next()) !== 'connected');

  assert.equal(echo.connectionStatus(), 'connected');
  assert.match(echo.socketId(), /^\d+\.\d+$/);
});

test('an unknown app key is rejected with 4001, and the client does not reconnect', async (stage) => {
  const server = await stage.server();
  const door = await stage.relay(server);

  const rejected = stage.pusher(door, { key: 'nobodys-key' });
  const errors = errorsOf(rejected);
  await inState(rejected, 'disconnected');
  assert.equal((await errors.next()).code, 4001);
  await stage.retryTimePasses(server);

  assert.equal(rejected.connection.state, 'disconnected');
  assert.equal(door.attempts.all.length, 1);
});

test('an idle client pings, is answered, and keeps its connection', async (stage) => {
  const server = await stage.server({ connection: { activity_timeout_s: 1 } });
  // Without an answer within half a second, the client would reconnect.
  const pusher = stage.pusher(server, { pongTimeout: 500 });
  await inState(pusher, 'connected');
  const { socket_id: before } = pusher.connection;
  const pongs = inbox('a pong');
  pusher.connection.bind('message', ({ event }) => event === 'pusher:pong' && pongs(event));

  await pongs.next();
  await pongs.next();

  assert.equal(pusher.connection.state, 'connected');
  assert.equal(pusher.connection.socket_id, before);
});

test('300 channels are subscribed at once, and each receives its event', async (stage) => {
  const { server, sdk } = await stage.set();
  const pusher = stage.pusher(server);
  const names = Array.from({ length: 300 }, (_, n) => `channel-${n}`);
  const heard = inbox('an event');
  // Not connected yet: pusher-js sends all subscriptions at once when it is.
  const channels = names.map((name) => pusher.subscribe(name));
  channels.forEach((channel) => channel.bind('news', heard));

  await Promise.all(channels.map(subscribed));
  for (let start = 0; start < names.length; start += 100) {
    const some = names.slice(start, start + 100);
    await Promise.all(some.map((name) => sdk.trigger(name, 'news', name)));
  }

  for (let count = 0; count < names.length; count += 1) await heard.next();
  await settled(pusher);
  assert.deepEqual(heard.all.toSorted(), names.toSorted());
});

test('a client that lost its connection comes back and subscribes again by itself', async (stage) => {
  const { server, sdk } = await stage.set();
  const relay = await stage.relay(server);
  const pusher = stage.pusher(relay);
  const channel = await subscribed(pusher.subscribe('news'));
  const heard = inbox('an event');
  channel.bind('flash', heard);
  const { socket_id: before } = pusher.connection;
  const again = inbox('the second subscription');
  channel.bind('pusher:subscription_succeeded', again);

  relay.cut();
  await again.next();
  await sdk.trigger('news', 'flash', 'we are back');

  assert.equal(await heard.next(), 'we are back');
  assert.notEqual(pusher.connection.socket_id, before);
});

test('after the server crashed and came back on its port, clients are back with all their channels', async (stage) => {
  const { server, backend } = await stage.set();
  const pusher = stage.pusher(server, { backend, user: 'ann' });
  const names = ['news', 'private-news', 'presence-news'];
  const channels = await Promise.all(names.map((name) => subscribed(pusher.subscribe(name))));
  const again = inbox('a second subscription');
  channels.forEach((channel) => channel.bind('pusher:subscription_succeeded', () => again(channel.name)));

  await server.kill();
  await stage.server({}, server.port);
  // The client retries after one second and, if that fails, after fifteen more.
  for (const _ of names) await again.next(40_000);

  assert.deepEqual(again.all.toSorted(), names.toSorted());
  assert.equal(channels[2].members.me.id, 'ann');
});

test('a server with a successor on its port closes with 4200, and its clients reconnect to the successor at once', async (stage) => {
  const settings = { server: { reuse_port: true, shutdown_grace_s: 2 } };
  const server = await stage.server(settings);
  const pusher = stage.pusher(server);
  await subscribed(pusher.subscribe('news'));
  const story = inbox('what the connection did');
  pusher.connection.bind('error', ({ data }) => {
    if (data?.code !== 4200) return;
    story(4200);
    // This timer is set before any of the client's next attempt, so it separates "at once" from "after a second".
    setTimeout(() => story('a second passes'), 1_000);
  });
  pusher.connection.bind('connecting', () => story('connects'));

  await stage.server(settings, server.port);
  assert.equal(await server.stop(), 0);

  // The code is reported twice, in an error and in the close frame.
  while ((await story.next()) !== 'connects');
  assert.deepEqual(new Set(story.all.slice(0, story.all.indexOf('connects'))), new Set([4200]));
  await inState(pusher, 'connected');
});
