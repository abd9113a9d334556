// Restarts a server behind nginx with twenty pusher-js clients, in Node and in a browser.

import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { MODES, assertRestart, inBrowser, inNode } from '../lib/restart.mjs';
import { test } from '../lib/stage.mjs';
import { nginx } from './lib/nginx.mjs';

const browser = await openBrowser();
after(() => browser.close());

for (const [name, clients] of [['Node', inNode], ['a browser', inBrowser(browser)]]) {
  for (const mode of Object.keys(MODES)) {
    test(`behind nginx, after a restart (${mode}) all clients in ${name} reconnect within 2.5 s`, async (stage) => {
      await assertRestart(stage, mode, clients, (upstreams) => nginx.start(upstreams));
    });
  }
}
