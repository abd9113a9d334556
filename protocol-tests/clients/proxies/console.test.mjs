// The console behind a proxy, which must pass on the host that the browser sent.

import assert from 'node:assert/strict';

import { PASSWORD, withConsole } from '../lib/console.mjs';
import { behindEach } from './lib/through.mjs';

behindEach('a password opens a session of the console', async (stage, before) => {
  const { port } = await before(await stage.server(withConsole()));
  const origin = `http://127.0.0.1:${port}`;
  const body = JSON.stringify({ password: PASSWORD });

  const entered = await fetch(`${origin}/console/login`, { method: 'POST', headers: { origin, 'content-type': 'application/json' }, body });

  assert.equal(entered.status, 200, await entered.clone().text());
  const [cookie] = entered.headers.get('set-cookie').split(';');
  const session = await fetch(`${origin}/console/session`, { headers: { cookie } });
  assert.deepEqual(await session.json(), await entered.json());
});
