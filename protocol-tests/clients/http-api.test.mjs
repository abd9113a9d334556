// The HTTP API, used by the server SDK for Node.

import assert from 'node:assert/strict';

import { openSdk, subscribed } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

const COUNTED = { app: { subscription_count: true } };

test('an event is accepted with 200 and an empty object', async (stage) => {
  const { sdk } = await stage.set();

  const response = await sdk.trigger('news', 'flash', 'anyone there?');

  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type'), /^application\/json/);
  assert.deepEqual(await response.json(), {});
});

test('one event goes to a hundred channels', async (stage) => {
  const { server, sdk } = await stage.set();
  const names = Array.from({ length: 100 }, (_, n) => `channel-${n}`);
  const pusher = stage.pusher(server);
  const heard = inbox('the event');
  for (const name of ['channel-0', 'channel-99']) {
    (await subscribed(pusher.subscribe(name))).bind('flash', () => heard(name));
  }

  await sdk.trigger(names, 'flash', {});

  assert.deepEqual([await heard.next(), await heard.next()].toSorted(), ['channel-0', 'channel-99']);
});

test('an event tells on request how many it is for', async (stage) => {
  const { server, sdk, backend } = await stage.set(COUNTED);
  await crowd(stage, server, backend);

  const channels = ['presence-room', 'news', 'empty'];
  const answer = await jsonOf(sdk.trigger(channels, 'flash', {}, { info: 'user_count,subscription_count' }));

  assert.deepEqual(answer.channels['presence-room'], { user_count: 2, subscription_count: 3 });
  assert.deepEqual(answer.channels.news, { subscription_count: 1 });
  assert.ok([undefined, 0].includes(answer.channels.empty.subscription_count));
});

test('a batch is delivered in its order', async (stage) => {
  const { server, sdk } = await stage.set();
  const channel = await subscribed(stage.pusher(server).subscribe('news'));
  const heard = inbox('an event', ({ n }) => n);
  channel.bind('flash', heard);

  const response = await sdk.triggerBatch([1, 2, 3, 4, 5].map((n) => ({ channel: 'news', name: 'flash', data: { n } })));

  assert.deepEqual(await response.json(), {});
  for (const n of [1, 2, 3, 4, 5]) assert.equal(await heard.next(), n);
});

test('a batch tells on request how many each event is for', async (stage) => {
  const { server, sdk, backend } = await stage.set(COUNTED);
  await crowd(stage, server, backend);

  const answer = await jsonOf(sdk.triggerBatch([
    { channel: 'news', name: 'flash', data: '1', info: 'subscription_count' },
    { channel: 'news', name: 'flash', data: '2' },
    { channel: 'presence-room', name: 'flash', data: '3', info: 'user_count' },
  ]));

  assert.deepEqual(answer, { batch: [{ subscription_count: 1 }, {}, { user_count: 2 }] });
});

test('an event in a batch excludes its socket_id', async (stage) => {
  const { server, sdk } = await stage.set();
  const author = stage.pusher(server);
  const channel = await subscribed(author.subscribe('news'));
  const heard = inbox('an event');
  channel.bind('flash', heard);

  await sdk.triggerBatch([
    { channel: 'news', name: 'flash', data: 'for others', socket_id: author.connection.socket_id },
    { channel: 'news', name: 'flash', data: 'for all' },
  ]);

  assert.equal(await heard.next(), 'for all');
});

test('the occupied channels are listed, by prefix and with their users', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  assert.deepEqual(await jsonOf(sdk.get({ path: '/channels' })), { channels: {} });
  await crowd(stage, server, backend);

  const all = await jsonOf(sdk.get({ path: '/channels' }));
  const rooms = await jsonOf(sdk.get({ path: '/channels', params: { filter_by_prefix: 'presence-', info: 'user_count' } }));

  assert.deepEqual(Object.keys(all.channels).toSorted(), ['news', 'presence-room']);
  assert.deepEqual(rooms, { channels: { 'presence-room': { user_count: 2 } } });
});

test('a channel query returns occupied and the requested info', async (stage) => {
  const { server, sdk, backend } = await stage.set(COUNTED);
  await crowd(stage, server, backend);
  await sdk.trigger('cache-weather', 'report', 'blue');
  const ask = (channel, info) => jsonOf(sdk.get({ path: `/channels/${channel}`, params: info ? { info } : {} }));

  assert.deepEqual(await ask('presence-room', 'user_count'), { occupied: true, user_count: 2 });
  assert.deepEqual(await ask('news', 'subscription_count'), { occupied: true, subscription_count: 1 });
  assert.deepEqual(await ask('empty'), { occupied: false });
  const weather = await ask('cache-weather', 'cache');
  assert.equal(weather.occupied, false);
  assert.equal(weather.cache.data, 'blue');
  assert.ok(weather.cache.ttl > 1_700 && weather.cache.ttl <= 1_800, `ttl ${weather.cache.ttl}`);
  assert.deepEqual(await ask('cache-empty', 'cache'), { occupied: false, cache: null });
});

test('the users of a presence channel are listed once each', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  await crowd(stage, server, backend);

  const { users } = await jsonOf(sdk.get({ path: '/channels/presence-room/users' }));
  const informed = await jsonOf(sdk.get({ path: '/channels/presence-room/users', params: { with_user_info: 1 } }));

  assert.deepEqual(users.toSorted((one, other) => one.id.localeCompare(other.id)), [{ id: 'ann' }, { id: 'bob' }]);
  assert.deepEqual(informed.users.map(({ id, user_info: info }) => [id, typeof info]), [['ann', 'object'], ['bob', 'object']]);
  assert.deepEqual(await jsonOf(sdk.get({ path: '/channels/presence-empty/users' })), { users: [] });
});

test('a path with more than plain ASCII is verified as it was signed', async (stage) => {
  const { sdk } = await stage.set();
  for (const userId of ['auth0|1', 'Jörg', 'a b', '<x>', '日本', '🔔', '"[]^`{}', 'a@b.test,c;d=e']) {
    const response = await sdk.terminateUserConnections(userId);
    assert.deepEqual([response.status, await response.json()], [200, {}], userId);
  }
});

test('info that the channel type lacks is rejected with 400', async (stage) => {
  const { sdk } = await stage.set();
  const wrong = [
    { path: '/channels/news', params: { info: 'user_count' } },
    { path: '/channels/news/users' },
  ];
  for (const question of wrong) {
    await assert.rejects(() => sdk.get(question), { status: 400 }, JSON.stringify(question));
  }
});

test('a wrong secret is rejected with 401, and the response shows the string to sign', async (stage) => {
  const { server } = await stage.set();

  await assert.rejects(openSdk(server, { secret: 'guess' }).trigger('news', 'flash', {}), ({ status, body }) => {
    assert.equal(status, 401);
    assert.match(body, /\/apps\/tests\/events/);
    return true;
  });
});

test('a wrong key is rejected with 400, a wrong app with 404', async (stage) => {
  const { server } = await stage.set();

  const unknownKey = openSdk(server, { key: 'nobodys-key' });
  await assert.rejects(unknownKey.trigger('news', 'flash', {}), ({ status, body }) => {
    assert.deepEqual({ status, ...JSON.parse(body) }, { status: 400, error: 'Unknown auth_key', code: 400 });
    return true;
  });
  await assert.rejects(openSdk(server, { id: 'nobody' }).trigger('news', 'flash', {}), { status: 404 });
});

test('an event that is too large is rejected with 413, and so is a batch with one', async (stage) => {
  const { sdk } = await stage.set({ app: { max_event_bytes: 10_240 } });
  const [fits, exceeds] = ['x'.repeat(10_240), 'x'.repeat(10_241)];

  assert.equal((await sdk.trigger('news', 'flash', fits)).status, 200);
  await assert.rejects(sdk.trigger('news', 'flash', exceeds), { status: 413 });
  await assert.rejects(sdk.triggerBatch([{ channel: 'news', name: 'flash', data: exceeds }]), { status: 413 });
});

test('a batch of more than ten is rejected as a whole', async (stage) => {
  const { server, sdk } = await stage.set();
  const channel = await subscribed(stage.pusher(server).subscribe('news'));
  const heard = inbox('an event');
  channel.bind('flash', heard);
  const batch = Array.from({ length: 11 }, () => ({ channel: 'news', name: 'flash', data: 'one of many' }));

  await assert.rejects(sdk.triggerBatch(batch), { status: 400 });
  await sdk.trigger('news', 'flash', 'fence');

  assert.equal(await heard.next(), 'fence');
});

/** Connects Ann, Bob in two windows, and a third client that is only subscribed to `news`. */
async function crowd(stage, server, backend) {
  const windows = ['ann', 'bob', 'bob'].map((user) => stage.pusher(server, { backend, user }));
  await Promise.all(windows.map((window) => subscribed(window.subscribe('presence-room'))));
  await subscribed(stage.pusher(server).subscribe('news'));
}

async function jsonOf(answer) {
  return (await answer).json();
}
