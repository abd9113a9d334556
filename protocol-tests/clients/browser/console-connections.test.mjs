// Connections in the console: their messages, why they ended, and why some were rejected.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { inState, openSdk, subscribed } from '../lib/clients.mjs';
import { logIn, VIEWS, withConsole } from '../lib/console.mjs';
import { openSlowClient } from '../lib/slow.mjs';
import { test } from '../lib/stage.mjs';
import { until } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** Opens the console of a server, logged in, and closes it with the test. */
async function opened(stage, server, options) {
  return stage.closing(await logIn(browser, server, options));
}

test('the story of a connection shows both directions and why it ended', async (stage) => {
  const { server } = await stage.set(withConsole());
  const pusher = stage.pusher(server);
  await subscribed(pusher.subscribe('news'));
  const window = await opened(stage, server);

  await window.goTo(VIEWS.connections);
  await window.main.getByRole('link', { name: pusher.connection.socket_id }).click();
  await window.main.getByRole('list', { name: 'Subscriptions' }).getByText('news').waitFor();
  await subscribed(pusher.subscribe('weather'));
  const log = window.main.getByRole('log');
  await log.getByRole('listitem').filter({ hasText: 'from client' }).getByText('pusher:subscribe').waitFor();
  await log.getByRole('listitem').filter({ hasText: 'to client' }).getByText('pusher_internal:subscription_succeeded').waitFor();
  await window.main.getByRole('list', { name: 'Subscriptions' }).getByText('weather').waitFor();
  // Two subscriptions; the established connection and both confirmations.
  await window.fact('Messages in').filter({ hasText: /^2$/ }).waitFor();
  await window.fact('Messages out').filter({ hasText: /^3$/ }).waitFor();

  await window.main.getByRole('button', { name: 'Disconnect' }).click();
  await window.page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await window.sees('Closed at');
  await log.getByText('closed 4009').waitFor();
  await until('a disconnected client', () => pusher.connection.state !== 'connected');

  await window.page.reload();
  await window.sees('Closed at');
  await window.fact('Messages in').filter({ hasText: /^2$/ }).waitFor();
  await window.main.getByRole('list', { name: 'Subscriptions' }).getByText('weather').waitFor();
});

test('a slow client is among the closed connections, with the reason', async (stage) => {
  const { server, sdk } = await stage.set(withConsole({ connection: { max_outbox_bytes: 131_072 } }));
  const window = await opened(stage, server);
  await window.goTo(VIEWS['closed connections']);
  await window.sees('No connection was closed');
  const socketId = await openSlowClient(stage, server, 'news');
  // The system buffers some megabytes of the connection before the server has to.
  const data = 'x'.repeat(8_000);
  await until('a closed connection', async () => {
    await Promise.all(Array.from({ length: 100 }, () => sdk.trigger('news', 'flood', data)));
    return window.main.getByText(socketId).isVisible();
  });

  const row = window.main.getByRole('row').filter({ hasText: socketId });
  await row.getByText('4100').waitFor();
  await row.getByText(/slow/i).first().waitFor();
});

test('a rejected connection says which key it had', async (stage) => {
  const server = await stage.server(withConsole());
  const window = await opened(stage, server);
  await window.goTo(VIEWS['rejected connections']);
  await window.sees('No connection was rejected');
  stage.pusher(server, { key: 'a-stale-key' });

  await window.sees('a-stale-key');
  await window.row('a-stale-key').getByText('4001').waitFor();
});

test('a failed authorization shows the string that should have been signed', async (stage) => {
  const { server } = await stage.set(withConsole());
  const wrong = openSdk(server, { secret: 'another-secret' });
  const backend = await stage.backend(wrong);
  const window = await opened(stage, server);
  await window.goTo(VIEWS.authorizations);
  await window.sees('No authorization has failed');
  const pusher = stage.pusher(server, { backend, user: 'ann' });
  await assert.rejects(subscribed(pusher.subscribe('private-orders')));

  const failure = window.main.getByRole('listitem').filter({ hasText: 'private-orders' });
  await failure.getByText(`${pusher.connection.socket_id}:private-orders`, { exact: true }).waitFor();
  const received = wrong.authorizeChannel(pusher.connection.socket_id, 'private-orders').auth;
  await failure.getByText(received, { exact: true }).waitFor();
});

test('an authorization without a signature is shown without a string, and breaks nothing', async (stage) => {
  const { server } = await stage.set(withConsole());
  const window = await opened(stage, server);
  await window.goTo(VIEWS.authorizations);
  const pusher = stage.pusher(server);
  await inState(pusher, 'connected');
  pusher.send_event('pusher:subscribe', { channel: 'private-without' });

  const failure = window.main.getByRole('listitem').filter({ hasText: 'private-without' });
  await failure.getByText('No authorization was sent').waitFor();
  assert.equal(await failure.getByText('should have been signed').count(), 0);
});
