// Reloads of a proxy with connected clients.

import assert from 'node:assert/strict';

import { openSdk, subscribed } from '../lib/clients.mjs';
import { inbox, until } from '../lib/waiting.mjs';
import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

behindEach('a proxy that is reloaded uses its new configuration, and keeps connections if it can', async (stage, before, kind) => {
  const [old, next] = [await stage.server(), await stage.server()];
  const proxy = await before(old);
  const plain = stage.closing(await connectRaw(proxy));
  const pusher = stage.pusher(proxy);
  const [heard, again] = [inbox('the event'), inbox('the second subscription')];
  const channel = await subscribed(pusher.subscribe('news'));
  channel.bind('flash', heard).bind('pusher:subscription_succeeded', again);
  const { socket_id } = pusher.connection;

  await proxy.reload(next);

  // Through the proxy, publishes reach the next server once the proxy uses it.
  const probe = stage.pusher(next);
  const probed = inbox('a publish at the next server');
  (await subscribed(probe.subscribe('probe'))).bind('flash', probed);
  await until('a proxy in front of the next server', async () => {
    await openSdk(proxy).trigger('probe', 'flash', {}).catch(() => {});
    return probed.all.length > 0;
  });
  if (kind.closesOnReload) {
    assert.equal(await plain.closed(), 1001);
    await again.next();
    await openSdk(next).trigger('news', 'flash', 'from the next server');
    assert.equal(await heard.next(), 'from the next server');
    return;
  }
  await openSdk(old).trigger('news', 'flash', 'from the old server');
  assert.equal(await heard.next(), 'from the old server');
  assert.equal(pusher.connection.socket_id, socket_id);
  const { connections } = await (await openSdk(old).get({ path: '/connections' })).json();
  assert.equal(connections, 2);
});
