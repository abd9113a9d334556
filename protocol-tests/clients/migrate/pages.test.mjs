// All blocks of the pages are followed by tests.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import nodeTest from 'node:test';

import { headingsOf } from './lib/page.mjs';

const PAGES = new URL('../../../docs/migrate/', import.meta.url);

for (const page of await readdir(PAGES)) {
  nodeTest(`each section of ${page} with commands is followed`, async () => {
    const test = await readFile(new URL(page.replace('.md', '.test.mjs'), import.meta.url), 'utf8');
    const followed = Array.from(test.matchAll(/\.follow\(PAGE, '([^']+)'\)/g), ([, heading]) => heading);

    assert.deepEqual(followed, await headingsOf(page));
  });
}
