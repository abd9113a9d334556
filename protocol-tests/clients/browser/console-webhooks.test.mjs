// Deliveries of webhooks in the console, and a second attempt at one that the endpoint has rejected.

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

/** An endpoint that answers with `endpoint.status`, and records the bodies that it receives. */
async function startEndpoint(stage) {
  const endpoint = { status: 400, received: inbox('a webhook') };
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.writeHead(endpoint.status).end();
    endpoint.received(Buffer.concat(parts).toString());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stage.closing({ close: () => { server.close(); server.closeAllConnections(); } });
  endpoint.url = `http://127.0.0.1:${server.address().port}/hooks`;
  return endpoint;
}

test('a webhook that the endpoint rejects is shown, and delivered when it is sent again', async (stage) => {
  const endpoint = await startEndpoint(stage);
  const app = Object.entries({ ...APP, console_payloads: true }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const server = await stage.serverAmong({ 'config.toml': [
    '[server]', 'shutdown_grace_s = 2', '[console]', `password = "${PASSWORD}"`, '[[apps]]', ...app,
    '[[apps.webhooks]]', `url = "${endpoint.url}"`, 'events = ["channel_occupied"]', '',
  ].join('\n') });
  const window = stage.closing(await logIn(browser, server));
  await window.goTo(VIEWS.webhooks);
  await window.sees('No webhook was sent');

  await subscribed(stage.pusher(server).subscribe('news'));
  const rejected = window.main.getByRole('listitem').filter({ hasText: 'The endpoint answered 400' }).first();
  await rejected.waitFor();
  await rejected.getByText('channel_occupied').first().waitFor();
  endpoint.status = 204;
  await rejected.getByRole('button', { name: 'Send again' }).click();

  await window.main.getByRole('listitem').filter({ hasText: 'The endpoint answered 204' }).first().waitFor();
});
