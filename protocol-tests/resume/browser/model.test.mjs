// The attacks on pages against a small server that takes WebSocket pongs for acknowledgements, which has to be noticed.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { Chromium } from '../lib/chromium.mjs';
import { startModel } from '../lib/model.mjs';
import { attackPage } from '../lib/page-attacks.mjs';

const browser = await Chromium.start();
after(() => browser.close());

/** Attacks a page of Echo, with a server that lacks some rules. */
async function attack(name, rules = {}) {
  const server = await startModel({ rules });
  try {
    return await attackPage(server, browser, name, { pusher: 8, echo: 2 });
  } finally {
    server.close();
  }
}

describe('a page', { concurrency: 2 }, () => {
  for (const name of ['leaves and comes back by Back', 'is frozen for a while', 'is frozen while its line is reset']) {
    test(`that ${name} misses nothing when it answers itself, and events when the browser does`, async () => {
      const { violations } = await attack(name);
      assert.deepEqual(violations, []);
      const { violations: found } = await attack(name, { pageAnswers: false });
      assert.match(found[0] ?? 'nothing', /missing/);
    });
  }
});
