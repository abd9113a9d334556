// TLS that is terminated by the proxy.

import assert from 'node:assert/strict';
import { Agent } from 'node:https';

import { errorsOf, inState, openSdk, subscribed } from '../lib/clients.mjs';
import { inbox } from '../lib/waiting.mjs';
import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

// The certificates are self-signed, and pusher-js in Node has no option to trust one. Read again for each connection.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';

const TLS_ONLY = { app: { tls_only: true }, server: { shutdown_grace_s: 2, trusted_proxies: ['127.0.0.1'] } };

behindEach('clients and publishers come by TLS to an app that wants it', async (stage, before) => {
  const server = await stage.server(TLS_ONLY);
  const proxy = await before(server);
  const heard = inbox('the event');
  const pusher = stage.pusher(proxy, { forceTLS: true, wssPort: proxy.tlsPort });
  (await subscribed(pusher.subscribe('news'))).bind('flash', heard);
  const agent = stageAgent(stage, proxy);

  await openSdk({ port: proxy.tlsPort }, { useTLS: true, agent }).trigger('news', 'flash', 'by TLS');

  assert.equal(await heard.next(), 'by TLS');
});

behindEach('a client without TLS is rejected with 4000, directly and through the proxy', async (stage, before) => {
  const server = await stage.server(TLS_ONLY);
  const proxy = await before(server);
  const pretending = { headers: { 'X-Forwarded-Proto': 'https' } };

  const clients = [await connectRaw(server), await connectRaw(proxy), await connectRaw(proxy, pretending)];

  for (const client of clients) {
    assert.equal((await client.events.next()).data.code, 4000);
    assert.equal(await client.closed(), 4000);
  }
});

behindEach('pusher-js reconnects with TLS after 4000', async (stage, before) => {
  const proxy = await before(await stage.server(TLS_ONLY));
  const pusher = stage.pusher(proxy, { wssPort: proxy.tlsPort, enabledTransports: ['ws', 'wss'] });
  const errors = errorsOf(pusher);

  await inState(pusher, 'connected');

  assert.equal((await errors.next()).code, 4000);
  assert.ok(pusher.connection.isUsingTLS());
});

/** Trusts the proxy's certificate and no other. */
function stageAgent(stage, proxy) {
  const agent = new Agent({ ca: proxy.certificate.pem, rejectUnauthorized: true });
  stage.closing({ close: () => agent.destroy() });
  return agent;
}
