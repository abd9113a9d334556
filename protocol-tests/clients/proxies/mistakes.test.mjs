// Common mistakes in the configuration of proxies.

import assert from 'node:assert/strict';

import { openSdk } from '../lib/clients.mjs';
import { connectRaw } from './lib/plain.mjs';
import { behindEach } from './lib/through.mjs';

behindEach('a proxy that drops the upgrade makes the server say so with 426', async (stage, before) => {
  const proxy = await before(await stage.server(), { change: 'dropsUpgrade' });

  const answer = await connectRaw(proxy);

  assert.equal(answer.status, 426);
  const { code, error } = JSON.parse(answer.body);
  assert.equal(code, 426);
  assert.match(error, /proxy.*Upgrade and Connection/);
  // The API works nevertheless, since it needs no upgrade.
  assert.equal((await openSdk(proxy).trigger('news', 'flash', {})).status, 200);
});
