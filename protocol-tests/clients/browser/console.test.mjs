// The console in a real browser: sessions, the overview, and the form that publishes.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { subscribed } from '../lib/clients.mjs';
import { logIn, openConsole, PASSWORD, VIEWS, withConsole } from '../lib/console.mjs';
import { APP } from '../lib/server.mjs';
import { test } from '../lib/stage.mjs';
import { inbox } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** Opens the console of a server, logged in, and closes it with the test. */
async function opened(stage, server, options) {
  return stage.closing(await logIn(browser, server, options));
}

test('a password opens the console, a wrong one does not, and after the log-out none is open', async (stage) => {
  const server = await stage.server(withConsole());
  const window = stage.closing(await openConsole(browser, server));

  await window.logIn('not the password');
  await window.page.getByRole('button', { name: 'Log in' }).waitFor();
  await window.sees(/password is wrong|wrong password/i);
  await window.logIn(PASSWORD);
  await window.heading('Overview').waitFor();
  await window.navigation.getByRole('button', { name: 'Log out' }).click();

  await window.sees('You are logged out.');
  await window.page.reload();
  await window.page.getByLabel('Password').waitFor();
});

test('the overview shows connections, rates and the node', async (stage) => {
  const { server, sdk } = await stage.set(withConsole());
  await subscribed(stage.pusher(server).subscribe('news'));
  const window = await opened(stage, server);

  const connections = window.main.getByRole('img', { name: /^Connections.*open 1$/ });
  await connections.waitFor();
  await window.row('ready').waitFor();
  await sdk.trigger('news', 'headline', { text: 'hello' });
  await window.main.getByRole('img', { name: /^Messages per second.*publishes [1-9]/ }).waitFor();
});

test('an event of the form reaches subscribers, and a rejected one says why', async (stage) => {
  const { server } = await stage.set(withConsole());
  const channel = await subscribed(stage.pusher(server).subscribe('news'));
  const received = inbox('an event');
  channel.bind('headline', received);
  const window = await opened(stage, server);

  await window.goTo(`${VIEWS.publish}?channel=news`);
  await window.main.getByRole('textbox', { name: 'Event' }).fill('headline');
  await window.main.getByRole('textbox', { name: 'Data' }).fill('{"text":"from the console"}');
  await window.main.getByRole('button', { name: 'Publish', exact: true }).click();
  assert.deepEqual(await received.next(), { text: 'from the console' });
  await window.sees('Published to news: 1 subscriber.');

  await window.main.getByRole('textbox', { name: 'Channels' }).fill('no!channel');
  await window.main.getByRole('button', { name: 'Publish', exact: true }).click();
  await window.sees('Not published');
  await window.sees(/Invalid channel name "no!channel"/);
});

test('a session of one app sees that app and nothing of the others', async (stage) => {
  const second = '[[apps]]\nid = "second"\nkey = "second-key"\nsecret = "second-secret"\n';
  const first = `[[apps]]\nid = "${APP.id}"\nkey = "${APP.key}"\nsecret = "${APP.secret}"\nconsole_password = "${PASSWORD}"\n`;
  const server = await stage.serverAmong({ 'config.toml': `[server]\nshutdown_grace_s = 2\n${first}${second}` });
  const window = stage.closing(await openConsole(browser, server));
  await window.logIn(PASSWORD);
  await window.sees(/password is wrong|wrong password/i);
  await window.logIn(PASSWORD, APP.id);
  await window.heading('Overview').waitFor();

  await window.ready();
  assert.equal(await window.page.getByText('second').count(), 0);
  assert.equal(await window.navigation.getByRole('link', { name: 'Configuration' }).count(), 0);
  for (const hash of [VIEWS.log, VIEWS.configuration, '#/apps/second/channels']) {
    await window.goTo(hash);
    await window.sees('Not allowed');
  }
  await window.goTo(VIEWS.channels);
  await window.sees('No channel is occupied');
});

test('a lost connection is reported, and comes back by itself with what has changed', async (stage) => {
  const server = await stage.server(withConsole());
  const window = await opened(stage, server);
  await window.navigation.getByText('Live', { exact: true }).waitFor();

  await server.stop();
  await window.sees('The connection to the server is lost');
  await window.navigation.getByText('Not connected').waitFor();
  await stage.server(withConsole(), server.port);

  // Sessions do not outlive the server, so the console asks for the password again.
  await window.sees('The session has ended. Log in again.');
  await window.logIn(PASSWORD);
  await window.navigation.getByText('Live', { exact: true }).waitFor();
});

test('the console works behind a path', async (stage) => {
  const server = await stage.server(withConsole({ server: { path: '/realtime', shutdown_grace_s: 2 } }));
  const window = await opened(stage, server, { path: '/realtime' });

  await window.navigation.getByText('Live', { exact: true }).waitFor();
  await window.row('ready').waitFor();
});
