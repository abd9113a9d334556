// Idle connections behind a proxy that closes them.

import assert from 'node:assert/strict';

import { openSdk } from '../lib/clients.mjs';
import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

const PROXY_TIMEOUT_MS = 5_000;

behindEach("the server's pings keep an idle connection from being cut", async (stage, before, kind) => {
  const [attentive, negligent] = await Promise.all([2, 60].map(async (activity_timeout_s) => {
    const server = await stage.server({ connection: { activity_timeout_s } });
    return before(server, { change: 'shortTimeout' });
  }));
  // These clients send no pings.
  const [kept, cut] = await Promise.all([attentive, negligent].map((proxy) => connectRaw(proxy)));
  stage.closing(kept);
  const began = Date.now();
  let cutAfter_ms;
  const isCut = cut.closed(3 * PROXY_TIMEOUT_MS).then((code) => {
    cutAfter_ms = Date.now() - began;
    return code;
  });

  while (Date.now() - began <= 2 * PROXY_TIMEOUT_MS) await kept.pings.next();

  if (kind.hasNoTimeout) {
    assert.equal(cutAfter_ms, undefined);
    cut.close();
  } else {
    assert.equal(await isCut, 1006, 'without pings the proxy cuts the connection');
    assert.ok(cutAfter_ms < 2 * PROXY_TIMEOUT_MS, `after ${cutAfter_ms} ms`);
  }
  const { connections } = await (await openSdk(attentive).get({ path: '/connections' })).json();
  assert.equal(connections, 1);
});
