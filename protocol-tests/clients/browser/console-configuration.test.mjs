// The configuration in the console.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { logIn, PASSWORD, VIEWS, withConsole } from '../lib/console.mjs';
import { test } from '../lib/stage.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** Opens the console of a server, logged in, and closes it with the test. */
async function opened(stage, server, options) {
  return stage.closing(await logIn(browser, server, options));
}

test('the configuration shows sources and masks secrets', async (stage) => {
  const server = await stage.server(withConsole());
  const window = await opened(stage, server);

  await window.goTo(VIEWS.configuration);
  await window.main.getByRole('searchbox').fill('console.password');
  const row = window.main.getByRole('row').filter({ has: window.page.getByText('console.password', { exact: true }) });
  await row.getByText('masked').waitFor();
  await row.getByText(/config\.toml:\d+/).waitFor();
  assert.ok(!(await window.page.content()).includes(PASSWORD));
});
