// Unmodified pusher-js and Echo in Chromium, in pages that sleep, leave, compute and lose their lines: nothing is missed.

import assert from 'node:assert/strict';
import { after, describe } from 'node:test';

import { test } from '../../clients/lib/stage.mjs';
import { Chromium } from '../lib/chromium.mjs';
import { LIBRARIES, nameOf } from '../lib/clients.mjs';
import { attackPage, PAGE_ATTACKS } from '../lib/page-attacks.mjs';

const browser = await Chromium.start();
after(() => browser.close());

/** Every attack is run with the latest libraries, and with one of the other combinations. */
const LATEST = { pusher: 8, echo: 2 };

// They wait more than they compute.
describe('a page', { concurrency: 3 }, () => {
  for (const [at, name] of Object.keys(PAGE_ATTACKS).entries()) {
    for (const library of [LATEST, LIBRARIES[at % (LIBRARIES.length - 1)]]) {
      test(`that ${name} misses nothing, with ${nameOf(library)}`, async (stage) => {
        const result = await attackPage(await stage.server(), browser, name, library, at + 1);
        assert.deepEqual(result.violations, [], `after ${result.cuts}`);
        assert.deepEqual([result.socketIds, result.changes], [1, 0], 'socket ids, and presence changes');
      });
    }
  }
});
