// The page at `/`, as a browser shows it.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { test } from '../lib/stage.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** Opens `/` of the server in a window of this width; resolves with the page and with what the browser reports. */
async function open(stage, server, { width = 1280, colorScheme = 'light' } = {}) {
  const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme });
  stage.closing({ close: () => page.close() });
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.port}/`);
  return { page, errors };
}

test('the page has its style, and the policy of its content blocks nothing', async (stage) => {
  const server = await stage.server();
  const { page, errors } = await open(stage, server);

  await page.getByRole('heading', { name: 'Campanile' }).waitFor();
  await page.getByText('It is ready.').waitFor();
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('.ready')).fontWeight), '600');
  // Browsers ask for an icon by themselves.
  assert.deepEqual(errors.filter((error) => !error.includes('404')), []);
});

for (const colorScheme of ['light', 'dark']) {
  test(`on a phone nothing but code is wider than the screen (${colorScheme})`, async (stage) => {
    const server = await stage.serverAmong({});
    const { page } = await open(stage, server, { width: 360, colorScheme });

    await page.getByRole('link', { name: 'Open the console' }).waitFor();
    await page.getByText("key: 'app-key'").first().waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  });
}
