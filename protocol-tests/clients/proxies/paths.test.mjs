// Proxies that change paths, and signatures that remain valid.

import assert from 'node:assert/strict';

import { openSdk, subscribed } from '../lib/clients.mjs';
import { APP } from '../lib/server.mjs';
import { inbox } from '../lib/waiting.mjs';
import { ask } from './lib/plain.mjs';
import { startTap } from './lib/tap.mjs';
import { behindEach } from './lib/through.mjs';

/** The proxy with the path of the PHP SDK's option `path`, which is not signed. The SDK for Node has no such option. */
const under = (path, { port }) => ({ port: `${port}${path}` });

behindEach('a server with a path is reached under it by clients and by publishers', async (stage, before) => {
  const server = await stage.server({ server: { path: '/ws' } });
  const proxy = await before(server, { isBeside: true });
  const heard = inbox('the event');
  (await subscribed(stage.pusher(proxy, { wsPath: '/ws' }).subscribe('news'))).bind('flash', heard);

  await openSdk(under('/ws', proxy)).trigger('news', 'flash', 'signed without the path');

  assert.equal(await heard.next(), 'signed without the path');
  const signed = await askSigned(proxy, 'GET', '/ws/apps/tests/channels');
  assert.deepEqual(JSON.parse(signed.body), { channels: { news: {} } });
  assert.equal((await ask(proxy, '/apps/tests/channels')).status, 404);
});

behindEach('a proxy may strip the path', async (stage, before) => {
  const proxy = await before(await stage.server(), { isBeside: true, change: 'stripsPath' });
  const heard = inbox('the event');
  (await subscribed(stage.pusher(proxy, { wsPath: '/ws' }).subscribe('news'))).bind('flash', heard);

  await openSdk(under('/ws', proxy)).trigger('news', 'flash', 'Bells');

  assert.equal(await heard.next(), 'Bells');
});

behindEach('a signed path and query reach the server as they were sent', async (stage, before) => {
  const tap = stage.closing(await startTap(await stage.server()));
  const proxy = await before(tap);
  const calls = [
    ['GET', '/apps/tests/channels/presence-a;b=c,d@e_f.g', {}],
    ['GET', '/apps/tests/channels/presence-a%3Bb%3dc%2Cd%40e', {}],
    ['GET', '/apps/tests/channels', { filter_by_prefix: 'presence-a;b@c', info: 'user_count' }],
    ['POST', '/apps/tests/users/ann%2Fb%20%C3%A9%25%40c/terminate_connections', {}],
    ['POST', '/apps/tests/users/a%2F..%2Fb/terminate_connections', {}],
  ];

  for (const [method, path, params] of calls) {
    const { status, body, line } = await askSigned(proxy, method, path, params);

    assert.equal(status, 200, `${path}: ${body}`);
    assert.ok(tap.sent.some((text) => text.includes(`${line} HTTP/1.1\r\n`)), `${line}, not\n${tap.sent.join('\n')}`);
  }
});

async function askSigned(proxy, method, path, params = {}) {
  const chunks = method === 'POST' ? ['{}'] : [];
  const query = openSdk(proxy).createSignedQueryString({ method, path, params, body: chunks[0] });
  const target = `${path}?${query}`;
  return { line: `${method} ${target}`, ...await ask(proxy, target, { method, chunks }) };
}
