// Channels in the console: events as they arrive, and members as they come and go.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { subscribed } from '../lib/clients.mjs';
import { logIn, VIEWS, withConsole } from '../lib/console.mjs';
import { test } from '../lib/stage.mjs';
import { until } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** Opens the console of a server, logged in, and closes it with the test. */
async function opened(stage, server, options) {
  return stage.closing(await logIn(browser, server, options));
}

test('an event is shown as it arrives, with its data', async (stage) => {
  const { server, sdk } = await stage.set(withConsole());
  await subscribed(stage.pusher(server).subscribe('news'));
  const window = await opened(stage, server);

  await window.goTo(VIEWS.channels);
  await window.main.getByRole('link', { name: 'news' }).click();
  await window.sees('Waiting for events');
  await sdk.trigger('news', 'headline', { text: 'The bell rings at noon' });

  const log = window.main.getByRole('log', { name: 'Live events' });
  await log.getByText('headline').waitFor();
  await log.getByText('{"text":"The bell rings at noon"}').waitFor();
  assert.equal(await log.getByRole('listitem').count(), 1);
});

test('an app without console_payloads shows events without their data, and says how to see it', async (stage) => {
  const { server, sdk } = await stage.set(withConsole({ app: { console_payloads: false } }));
  await subscribed(stage.pusher(server).subscribe('news'));
  const window = await opened(stage, server);

  await window.goTo(`${VIEWS.channels}/news`);
  await window.sees('console_payloads = true');
  await sdk.trigger('news', 'headline', { text: 'a secret' });

  await window.main.getByRole('log').getByText('headline').waitFor();
  assert.equal(await window.page.getByText('a secret').count(), 0);
});

test('a member is shown when it comes, and no longer when it has gone', async (stage) => {
  const { server, backend } = await stage.set(withConsole());
  await subscribed(stage.pusher(server, { backend, user: 'ann' }).subscribe('presence-room'));
  const window = await opened(stage, server);

  await window.goTo(`${VIEWS.channels}/presence-room`);
  const members = window.main.getByRole('list', { name: 'Members' });
  await members.getByText('ann', { exact: true }).waitFor();
  const bob = stage.pusher(server, { backend, user: 'bob' });
  await subscribed(bob.subscribe('presence-room'));
  await members.getByText('bob', { exact: true }).waitFor();
  await members.getByText('Bob', { exact: true }).waitFor();
  bob.disconnect();

  await members.getByText('bob', { exact: true }).waitFor({ state: 'detached' });
  const log = window.main.getByRole('log');
  await log.getByText('member added').waitFor();
  await log.getByText('member removed').waitFor();
});

test('above fifty events a second a part of them is shown, and the page says so', async (stage) => {
  const { server, sdk } = await stage.set(withConsole());
  const window = await opened(stage, server);
  await window.goTo(`${VIEWS.channels}/news`);
  await window.sees('Waiting for events');
  const batch = Array.from({ length: 10 }, (_, number) => ({ name: 'flood', channel: 'news', data: String(number) }));
  const notice = window.main.getByRole('status').filter({ hasText: /Sampled: 50 of [\d,]+ in the last second are shown/ });
  await until('the notice', async () => {
    await Promise.all(Array.from({ length: 10 }, () => sdk.triggerBatch(batch)));
    return notice.isVisible();
  });

  await notice.waitFor({ state: 'hidden' });
  await window.main.getByRole('log').getByText('flood').first().waitFor();
});
