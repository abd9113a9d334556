// Regular traffic of clients and publishers through a proxy.

import assert from 'node:assert/strict';

import { inState, joined, openSdk, settled, subscribed } from '../lib/clients.mjs';
import { inbox } from '../lib/waiting.mjs';
import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

behindEach('pusher-js connects, and hears what the SDK publishes', async (stage, before) => {
  const proxy = await before(await stage.server());
  const heard = inbox('the event');
  const pusher = stage.pusher(proxy);
  (await subscribed(pusher.subscribe('news'))).bind('flash', heard);

  const response = await openSdk(proxy).trigger('news', 'flash', { title: 'Bells' });

  assert.equal(response.status, 200);
  assert.deepEqual(await heard.next(), { title: 'Bells' });
  assert.match(pusher.connection.socket_id, /^\d+\.\d+$/);
});

behindEach('a private channel is entered with the signature of the application', async (stage, before) => {
  const { server, sdk, backend } = await stage.set();
  const proxy = await before(server);
  const heard = inbox('the event');
  await joined(stage.echo(proxy, { backend, user: 'ann' }).private('orders.7').listen('.shipped', heard));

  await sdk.trigger('private-orders.7', 'shipped', { id: 7 });

  assert.deepEqual(await heard.next(), { id: 7 });
});

behindEach('members see each other come and go', async (stage, before) => {
  const { server, backend } = await stage.set();
  const proxy = await before(server);
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.echo(proxy, { backend, user }));
  const [joining, leaving] = [inbox('who joins'), inbox('who leaves')];
  await joined(ann.join('room').joining(joining).leaving(leaving));

  await joined(bob.join('room'));
  assert.deepEqual(await joining.next(), { name: 'Bob' });
  bob.disconnect();
  assert.deepEqual(await leaving.next(), { name: 'Bob' });
});

behindEach('a whisper is heard by the others', async (stage, before) => {
  const { server, backend } = await stage.set();
  const proxy = await before(server);
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.echo(proxy, { backend, user }));
  const heard = inbox('the whisper');
  const room = await joined(ann.private('room'));
  await joined(bob.private('room').listenForWhisper('typing', heard));

  room.whisper('typing', { draft: 'Hel' });

  assert.deepEqual(await heard.next(), { draft: 'Hel' });
});

behindEach('an event of 100 KB arrives whole', async (stage, before) => {
  const proxy = await before(await stage.server());
  const heard = inbox('the event');
  (await subscribed(stage.pusher(proxy).subscribe('news'))).bind('flash', heard);
  const large = Array.from({ length: 10_240 }, (_, n) => String(n).padStart(10)).join('');
  assert.equal(large.length, 102_400);

  await openSdk(proxy).trigger('news', 'flash', large);

  assert.equal(await heard.next(), large);
});

behindEach('there is room for more clients than Debian sets out with', async (stage, before, kind) => {
  const proxy = await before(await stage.server());
  // Debian limits Apache to 150 concurrent requests, and nginx to 384 connections.
  const clients = await Promise.all(Array.from({ length: kind.clients ?? 400 }, async () => {
    const client = stage.closing(await connectRaw(proxy));
    assert.equal((await client.events.next()).event, 'pusher:connection_established');
    return client;
  }));

  const { connections } = await (await openSdk(proxy).get({ path: '/connections' })).json();

  assert.equal(connections, clients.length);
});
