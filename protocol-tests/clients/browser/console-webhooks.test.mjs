// Deliveries of webhooks in the console, and sending one again.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { subscribed } from '../lib/clients.mjs';
import { logIn, PASSWORD, VIEWS } from '../lib/console.mjs';
import { APP } from '../lib/server.mjs';
import { test } from '../lib/stage.mjs';
import { inbox } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** An endpoint that answers with `status`, and records the bodies that it receives. */
async function startEndpoint(stage, status) {
  const endpoint = { received: inbox('a webhook') };
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.writeHead(status).end();
    endpoint.received(Buffer.concat(parts).toString());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stage.closing({ close: () => { server.close(); server.closeAllConnections(); } });
  endpoint.url = `http://127.0.0.1:${server.address().port}/hooks`;
  return endpoint;
}

/** A server with one webhook at `endpoint`, and its console at the view of webhooks. */
async function webhooksOf(stage, endpoint) {
  const app = Object.entries({ ...APP, console_payloads: true }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const server = await stage.serverAmong({ 'config.toml': [
    '[server]', 'shutdown_grace_s = 2', '[console]', `password = "${PASSWORD}"`, '[[apps]]', ...app,
    '[[apps.webhooks]]', `url = "${endpoint.url}"`, 'events = ["channel_occupied"]', '',
  ].join('\n') });
  const window = stage.closing(await logIn(browser, server));
  await window.goTo(VIEWS.webhooks);
  await window.sees('No webhook was sent');
  return { server, window };
}

test('a webhook that the endpoint rejects is shown with its status', async (stage) => {
  const endpoint = await startEndpoint(stage, 400);
  const { server, window } = await webhooksOf(stage, endpoint);
  await subscribed(stage.pusher(server).subscribe('news'));

  const rejected = window.main.getByRole('listitem').filter({ hasText: 'The endpoint answered 400' }).first();
  await rejected.waitFor();
  await rejected.getByText('channel_occupied').first().waitFor();
  // The second rejection makes the event a dead letter.
  await window.main.getByRole('listitem').filter({ hasText: 'attempt 2' }).getByText('failed').waitFor();
});

// The server itself does not repeat what the endpoint has accepted.
test('a webhook that is sent again arrives with the same body', async (stage) => {
  const endpoint = await startEndpoint(stage, 204);
  const { server, window } = await webhooksOf(stage, endpoint);
  await subscribed(stage.pusher(server).subscribe('news'));
  const body = await endpoint.received.next();

  const delivered = window.main.getByRole('listitem').filter({ hasText: 'The endpoint answered 204' });
  await delivered.getByRole('button', { name: 'Send again' }).click();
  assert.equal(await endpoint.received.next(), body);
  await delivered.nth(1).waitFor();
});
