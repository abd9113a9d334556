// The end of connections behind a proxy: the close frame reaches the client, and the client reconnects.

import assert from 'node:assert/strict';

import { errorsOf, inState, openSdk, subscribed } from '../lib/clients.mjs';
import { inbox } from '../lib/waiting.mjs';
import { connectRaw } from './lib/plain.mjs';
import { HOLD_CLIENTS, behindEach } from './lib/through.mjs';

behindEach('an unknown app key is rejected with 4001, in words and in the close code', async (stage, before) => {
  const proxy = await before(await stage.server());
  const rejected = stage.pusher(proxy, { key: 'nobodys-key' });
  const errors = errorsOf(rejected);
  const plain = await connectRaw(proxy, { key: 'nobodys-key' });

  await inState(rejected, 'disconnected');

  assert.equal((await errors.next()).code, 4001);
  const { event, data } = await plain.events.next();
  assert.deepEqual({ event, code: data.code }, { event: 'pusher:error', code: 4001 });
  assert.equal(await plain.closed(), 4001);
});

behindEach('a stopped server closes with 4100, and clients reconnect when it runs again', async (stage, before) => {
  const server = await stage.server();
  const proxy = await before(server);
  const plain = await connectRaw(proxy);
  const pusher = stage.pusher(proxy);
  const errors = errorsOf(pusher);
  const channel = await subscribed(pusher.subscribe('news'));
  const [heard, again] = [inbox('the event'), inbox('the second subscription')];
  channel.bind('flash', heard).bind('pusher:subscription_succeeded', again);

  assert.equal(await server.stop(), 0);
  assert.equal(await plain.closed(), 4100);
  assert.equal((await errors.next()).code, 4100);
  await stage.server({}, server.port);

  // The client retries after a second; if that is too early, the next attempt is fifteen seconds later.
  await again.next(40_000);
  await openSdk(proxy).trigger('news', 'flash', 'we are back');
  assert.equal(await heard.next(), 'we are back');
});

behindEach('a client that connects while the server restarts is connected when it is back', async (stage, before) => {
  const server = await stage.server();
  const proxy = await before(server);
  await server.stop();

  const [client] = await Promise.all([connectRaw(proxy), stage.server({}, server.port)]);

  stage.closing(client);
  assert.equal((await client.events.next()).event, 'pusher:connection_established');
}, HOLD_CLIENTS);
