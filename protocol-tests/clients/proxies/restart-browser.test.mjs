// Restarts a server behind nginx with twenty pusher-js clients in a browser.

import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { MODES, assertRestart, inBrowser } from '../lib/restart.mjs';
import { test } from '../lib/stage.mjs';
import { nginx } from './lib/nginx.mjs';

const browser = await openBrowser();
after(() => browser.close());

for (const mode of Object.keys(MODES)) {
  test(`behind nginx, after a restart (${mode}) all clients in a browser reconnect within 2.5 s`, async (stage) => {
    await assertRestart(stage, mode, inBrowser(browser), (upstreams) => nginx.start(upstreams));
  });
}
