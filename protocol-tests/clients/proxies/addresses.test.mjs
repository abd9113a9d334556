// Connections are counted for the clients' addresses if the proxy is listed in server.trusted_proxies.

import assert from 'node:assert/strict';

import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

const ONE_EACH = { connection: { max_connections_per_ip: 1 } };
const TRUSTING = { ...ONE_EACH, server: { shutdown_grace_s: 2, trusted_proxies: ['127.0.0.1'] } };

behindEach('the addresses that a listed proxy forwards are those that are counted', async (stage, before) => {
  const proxy = await before(await stage.server(TRUSTING));

  assert.equal(await arrival(stage, proxy, '127.0.0.2'), 'let in');
  assert.equal(await arrival(stage, proxy, '127.0.0.3'), 'let in');
  assert.equal(await arrival(stage, proxy, '127.0.0.2'), 4100);
});

behindEach('the addresses that an unlisted proxy forwards are not believed', async (stage, before) => {
  const proxy = await before(await stage.server(ONE_EACH));

  assert.equal(await arrival(stage, proxy, '127.0.0.2'), 'let in');
  assert.equal(await arrival(stage, proxy, '127.0.0.3'), 4100);
});

behindEach('an address that a client makes up is not believed', async (stage, before) => {
  const proxy = await before(await stage.server(TRUSTING));
  const madeUp = { 'X-Forwarded-For': ['203.0.113.7', '203.0.113.8, 203.0.113.9'] };

  assert.equal(await arrival(stage, proxy, '127.0.0.2'), 'let in');
  assert.equal(await arrival(stage, proxy, '127.0.0.2', madeUp), 4100);
});

/** Connects from `address`; resolves with 'let in', or with the code of the rejection. */
async function arrival(stage, proxy, address, headers) {
  const client = await connectRaw(proxy, { from: address, headers });
  assert.ok(client.events, `no upgrade, but ${client.status}: ${client.body}`);
  stage.closing(client);
  const { event, data } = await client.events.next();
  return event === 'pusher:connection_established' ? 'let in' : data.code;
}
