// Presence channels: the list of members, joins and leaves.

import assert from 'node:assert/strict';

import { joined, settled, subscribed } from './lib/clients.mjs';
import { memberOf } from './lib/backend.mjs';
import { test } from './lib/stage.mjs';
import { inbox, until } from './lib/waiting.mjs';

test('a new member receives the list, and the others receive who joins and who leaves', async (stage) => {
  const { server, backend } = await stage.set();
  const ann = await enter(stage, server, backend, 'ann');
  assert.deepEqual(await ann.here.next(), [{ name: 'Ann' }]);

  const bob = await enter(stage, server, backend, 'bob');

  assert.deepEqual(byName(await bob.here.next()), [{ name: 'Ann' }, { name: 'Bob' }]);
  assert.deepEqual(await ann.joining.next(), { name: 'Bob' });
  bob.echo.leave('room');
  assert.deepEqual(await ann.leaving.next(), { name: 'Bob' });
  assert.deepEqual(bob.joining.all, []);
});

test('a closed window removes its member', async (stage) => {
  const { server, backend } = await stage.set();
  const ann = await enter(stage, server, backend, 'ann');
  const bob = await enter(stage, server, backend, 'bob');

  bob.echo.disconnect();

  assert.deepEqual(await ann.leaving.next(), { name: 'Bob' });
});

test('two tabs of one user join once and leave once', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const ann = await enter(stage, server, backend, 'ann');
  const tabs = [await enter(stage, server, backend, 'bob'), await enter(stage, server, backend, 'bob')];
  for (const tab of tabs) assert.deepEqual(byName(await tab.here.next()), [{ name: 'Ann' }, { name: 'Bob' }]);

  tabs[0].echo.leave('room');
  await settled(tabs[0].echo.connector.pusher);
  // On the same channel, so that it arrives after any event that the first tab's leave caused.
  const fence = inbox('the fence');
  ann.channel.listen('.fence', fence);
  await sdk.trigger('presence-room', 'fence', {});
  await fence.next();
  assert.deepEqual(ann.leaving.all, []);
  tabs[1].echo.leave('room');

  await ann.leaving.next();
  await sdk.trigger('presence-room', 'fence', {});
  await fence.next();
  assert.deepEqual(ann.joining.all, [{ name: 'Bob' }]);
  assert.deepEqual(ann.leaving.all, [{ name: 'Bob' }]);
});

test('closing one of two tabs is not leaving', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const ann = await enter(stage, server, backend, 'ann');
  const tabs = [await enter(stage, server, backend, 'bob'), await enter(stage, server, backend, 'bob')];
  const connections = async () => (await (await sdk.get({ path: '/connections' })).json()).connections;

  tabs[0].echo.disconnect();
  await until('two connections', async () => (await connections()) === 2);
  const fence = inbox('the fence');
  ann.channel.listen('.fence', fence);
  await sdk.trigger('presence-room', 'fence', {});
  await fence.next();
  assert.deepEqual(ann.leaving.all, []);

  tabs[1].echo.disconnect();
  assert.deepEqual(await ann.leaving.next(), { name: 'Bob' });
});

test('a client finds itself among the members', async (stage) => {
  const { server, backend } = await stage.set();
  const channel = await subscribed(stage.pusher(server, { backend, user: 'ann' }).subscribe('presence-room'));

  assert.deepEqual(channel.members.me, { id: 'ann', info: { name: 'Ann' } });
  assert.equal(channel.members.count, 1);
});

test('a member without user info breaks nobody\'s list', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const nameless = await stage.backend(sdk, {
    authorize: ({ socketId, channel }) => sdk.authorizeChannel(socketId, channel, { user_id: 'ghost' }),
  });
  const ghost = await enter(stage, server, nameless, 'ghost');
  const ann = await enter(stage, server, backend, 'ann');

  assert.deepEqual(await ghost.here.next(), [{}]);
  assert.deepEqual(byName(await ann.here.next()), [{}, { name: 'Ann' }]);
});

test('a numeric user id is one and the same member everywhere', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const numbers = await stage.backend(sdk, {
    authorize: ({ socketId, channel }) => (
      sdk.authorizeChannel(socketId, channel, { user_id: 7, user_info: { name: 'Seven' } })
    ),
  });
  const watcher = await subscribed(stage.pusher(server, { backend, user: 'ann' }).subscribe('presence-room'));
  const [added, removed] = [inbox('member_added'), inbox('member_removed')];
  watcher.bind('pusher:member_added', added);
  watcher.bind('pusher:member_removed', removed);
  const seven = stage.pusher(server, { backend: numbers });
  const channel = await subscribed(seven.subscribe('presence-room'));

  assert.deepEqual(await added.next(), { id: '7', info: { name: 'Seven' } });
  assert.deepEqual(channel.members.me.info, { name: 'Seven' });
  seven.disconnect();
  assert.deepEqual(await removed.next(), { id: '7', info: { name: 'Seven' } });
});

test('one connection can be a different member in each channel', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const masks = await stage.backend(sdk, {
    authorize: ({ socketId, channel }) => sdk.authorizeChannel(socketId, channel, memberOf(`guest-${channel}`)),
  });
  const ann = stage.pusher(server, { backend, user: 'ann' });
  const removed = inbox('member_removed', ({ id }) => id);
  const watched = await subscribed(ann.subscribe('presence-b'));
  watched.bind('pusher:member_removed', removed);
  const guest = stage.pusher(server, { backend: masks });
  await Promise.all(['presence-a', 'presence-b'].map((name) => subscribed(guest.subscribe(name))));

  guest.unsubscribe('presence-b');

  assert.equal(await removed.next(), 'guest-presence-b');
});

test('a signed-in client joins without channel data', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const plain = await stage.backend(sdk, {
    authorize: ({ socketId, channel }) => sdk.authorizeChannel(socketId, channel),
  });
  const ann = await enter(stage, server, backend, 'ann');
  const bob = stage.pusher(server, { backend: plain, user: 'bob' });
  bob.signin();

  const channel = await subscribed(bob.subscribe('presence-room'));

  assert.deepEqual(channel.members.me, { id: 'bob', info: { name: 'Bob' } });
  assert.deepEqual(await ann.joining.next(), { name: 'Bob' });
});

/** Joins `presence-room` through Echo and records all its presence callbacks. */
async function enter(stage, server, backend, user) {
  const echo = stage.echo(server, { backend, user });
  const [here, joining, leaving] = ['here', 'joining', 'leaving'].map((what) => inbox(`${what} at ${user}`));
  const channel = await joined(echo.join('room').here(here).joining(joining).leaving(leaving));
  return { echo, channel, here, joining, leaving };
}

function byName(members) {
  return members.toSorted((one, other) => String(one.name ?? '').localeCompare(String(other.name ?? '')));
}
