// The console of a cluster: any node serves it, and it shows all of them.

import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { subscribed } from '../lib/clients.mjs';
import { logIn, VIEWS, withConsole } from '../lib/console.mjs';
import { startRedis } from '../lib/redis.mjs';
import { test } from '../lib/stage.mjs';

const browser = await openBrowser();
after(() => browser.close());

test('a session at one node is valid at the other, which shows the connections of both', async (stage) => {
  const redis = stage.closing(await startRedis());
  const settings = withConsole({ redis: { url: redis.url }, server: { shutdown_grace_s: 2 } });
  const [one, other] = [await stage.server(settings), await stage.server(settings)];
  const pusher = stage.pusher(one);
  await subscribed(pusher.subscribe('news'));
  const window = stage.closing(await logIn(browser, one));
  await window.row('this one').waitFor();
  const { node } = await window.page.evaluate(async () => (await fetch('session')).json());

  // A browser sends the cookie to all ports of the host.
  await window.page.goto(`${other.url}/console/`);
  await window.heading('Overview').waitFor();
  await window.goTo(VIEWS.connections);
  const row = window.row(pusher.connection.socket_id);
  await row.getByText(`node ${node}`).waitFor();
  await row.getByRole('link', { name: pusher.connection.socket_id }).click();
  await window.fact('Node').filter({ hasText: node }).waitFor();
  await subscribed(pusher.subscribe('weather'));
  await window.main.getByRole('log').getByText('pusher:subscribe').waitFor();
  await window.main.getByRole('button', { name: 'Disconnect' }).click();
  await window.page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await window.sees('Closed at');
});
