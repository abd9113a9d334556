// Cache channels: the last event is kept for later subscribers.

import assert from 'node:assert/strict';

import { settled, subscribed } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

test('a late subscriber of a cache channel receives the cached event', async (stage) => {
  const { server, sdk } = await stage.set();
  await sdk.trigger('cache-weather', 'report', { sky: 'grey' });
  await sdk.trigger('cache-weather', 'report', { sky: 'blue' });
  const pusher = stage.pusher(server);
  const [heard, missed] = [inbox('the cached event'), inbox('a cache miss')];
  const channel = pusher.subscribe('cache-weather');
  channel.bind('report', heard);
  channel.bind('pusher:cache_miss', missed);

  assert.deepEqual(await heard.next(), { sky: 'blue' });
  await settled(pusher);
  assert.equal(heard.all.length, 1);
  assert.equal(missed.all.length, 0);
});

test('the last event outlives the last subscriber', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const first = stage.pusher(server, { backend, user: 'ann' });
  await subscribed(first.subscribe('private-cache-weather'));
  await sdk.trigger('private-cache-weather', 'report', 'rain');
  first.unsubscribe('private-cache-weather');
  await settled(first);

  const heard = inbox('the cached event');
  stage.pusher(server, { backend, user: 'bob' }).subscribe('private-cache-weather').bind('report', heard);

  assert.equal(await heard.next(), 'rain');
});

test('an empty cache channel sends cache_miss, and then delivers events', async (stage) => {
  const { server, sdk } = await stage.set();
  const [heard, missed] = [inbox('the event'), inbox('the cache miss')];
  const channel = stage.pusher(server).subscribe('cache-empty');
  channel.bind('pusher:cache_miss', missed);
  channel.bind('report', heard);

  await missed.next();
  await sdk.trigger('cache-empty', 'report', 'first');

  assert.equal(await heard.next(), 'first');
});

test('a client event is delivered on a cache channel, but not cached', async (stage) => {
  const { server, backend } = await stage.set();
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.pusher(server, { backend, user }));
  const atBob = inbox('the client event');
  const here = await subscribed(ann.subscribe('private-cache-notes'));
  (await subscribed(bob.subscribe('private-cache-notes'))).bind('client-draft', atBob);
  here.trigger('client-draft', { text: 'not yet' });
  await atBob.next();

  const missed = inbox('the cache miss');
  stage.pusher(server, { backend, user: 'eve' }).subscribe('private-cache-notes').bind('pusher:cache_miss', missed);

  await missed.next();
});
