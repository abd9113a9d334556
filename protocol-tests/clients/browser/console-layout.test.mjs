// The console for people with a phone, a keyboard, a screen reader, in light and dark.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { openSdk, subscribed } from '../lib/clients.mjs';
import { logIn, openConsole, VIEWS, withConsole } from '../lib/console.mjs';
import { test } from '../lib/stage.mjs';
import { until } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 860 };

/** A server in which each view has something to show. */
async function busyServer(stage) {
  const { server, sdk, backend } = await stage.set(withConsole());
  const pusher = stage.pusher(server, { backend, user: 'ann' });
  await subscribed(pusher.subscribe('presence-room.with-a-rather-long-name-that-does-not-fit-on-a-phone'));
  const stranger = await stage.backend(openSdk(server, { secret: 'another-secret' }));
  await assert.rejects(subscribed(stage.pusher(server, { backend: stranger, user: 'bob' }).subscribe('presence-hall')));
  stage.pusher(server, { key: 'a-stale-key-of-another-environment' });
  return { server, sdk, pusher };
}

/** The addresses of all views, with those of a channel and of a connection. */
function everyView(pusher) {
  const channel = encodeURIComponent(pusher.allChannels()[0].name);
  return {
    ...VIEWS,
    channel: `${VIEWS.channels}/${channel}`,
    connection: `${VIEWS.connections}/${pusher.connection.socket_id}`,
    'unknown address': '#/nowhere',
  };
}

for (const colorScheme of ['light', 'dark']) {
  for (const [device, viewport] of [['a desktop', DESKTOP], ['a phone', PHONE]]) {
    test(`axe-core finds nothing in any view, ${colorScheme}, on ${device}`, async (stage) => {
      const { server, sdk, pusher } = await busyServer(stage);
      const problems = {};
      const entrance = stage.closing(await openConsole(browser, server, { colorScheme, viewport }));
      await entrance.page.getByLabel('Password').waitFor();
      problems['log-in'] = await entrance.axeProblems();
      const window = stage.closing(await logIn(browser, server, { colorScheme, viewport }));
      for (const [view, hash] of Object.entries(everyView(pusher))) {
        await window.goTo(hash);
        if (view === 'channel') {
          await sdk.trigger(pusher.allChannels()[0].name, 'headline', { text: 'hello', list: Array(40).fill('long') });
          await window.main.getByRole('log').getByText('headline').waitFor();
        }
        problems[view] = await window.axeProblems();
      }

      assert.deepEqual(problems, Object.fromEntries(Object.keys(problems).map((view) => [view, []])));
    });
  }
}

test('no view is wider than a phone, and the menu leads to each', async (stage) => {
  const { server, pusher } = await busyServer(stage);
  const window = stage.closing(await logIn(browser, server, { viewport: PHONE }));
  for (const [view, hash] of Object.entries(everyView(pusher))) {
    await window.goTo(hash);
    assert.equal(await window.isTooWide(), false, view);
  }

  assert.equal(await window.navigation.isVisible(), false);
  await window.page.getByRole('button', { name: 'Menu' }).click();
  await window.navigation.getByRole('link', { name: 'Failed authorizations' }).click();
  await window.heading('Failed authorizations').waitFor();
  await window.navigation.waitFor({ state: 'hidden' });
});

test('the theme follows the system until another is chosen, and the choice is kept', async (stage) => {
  const server = await stage.server(withConsole());
  const window = stage.closing(await logIn(browser, server, { colorScheme: 'dark' }));
  const background = () => window.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await window.page.emulateMedia({ colorScheme: 'light' });
  await until('a light page', async () => await background() !== dark);

  await window.navigation.getByRole('radio', { name: 'Dark' }).check();
  assert.equal(await background(), dark);
  await window.page.reload();
  await window.heading('Overview').waitFor();
  assert.equal(await background(), dark);
});

test('the keyboard reaches the content, and the focus follows to a new view', async (stage) => {
  const server = await stage.server(withConsole());
  const window = stage.closing(await logIn(browser, server));
  const focused = () => window.page.evaluate(() => document.activeElement.textContent);

  // The keyboard starts where the focus was last: in a new page, at its beginning.
  await window.page.reload();
  await window.heading('Overview').waitFor();
  await window.page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the content');
  await window.page.keyboard.press('Enter');
  assert.equal(await focused(), 'Overview');
  await window.navigation.getByRole('link', { name: 'Publish' }).press('Enter');
  await window.heading('Publish').waitFor();
  assert.equal(await focused(), 'Publish');
});
