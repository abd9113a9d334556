// The chat in `examples/chat` while its Campanile is down, and twenty clients of a server that restarts.

import { after } from 'node:test';

import { annAndBob, openBrowser } from '../lib/chat.mjs';
import { assertRestart, inBrowser } from '../lib/restart.mjs';
import { test } from '../lib/stage.mjs';

const browser = await openBrowser();
after(() => browser.close());

/** pusher-js retries after one second and, if that fails, after fifteen more. */
const RECONNECTION_MS = 40_000;

test('when the server has restarted, the pages are back, and messages flow again', async (stage) => {
  const { ann, bob, server } = await annAndBob(stage, browser);

  await server.kill();
  await ann.loses(ann.connection.getByText('Connected'));
  await ann.say('Is anybody there?');
  await ann.sees(ann.messages.getByText('Not delivered'));
  await stage.server({}, server.port);

  for (const window of [ann, bob]) await window.sees(window.connection.getByText('Connected'), RECONNECTION_MS);
  await ann.sees(ann.member('Bob'), RECONNECTION_MS);
  await ann.messages.getByRole('button', { name: 'Try again' }).click();
  await bob.sees(bob.message('Is anybody there?'));
  await bob.say('I am');
  await ann.sees(ann.message('I am'));
});

for (const mode of ['plain', 'reuse_port', 'LISTEN_FDS']) {
  test(`after a restart (${mode}) all clients reconnect within 2.5 s`, (stage) => assertRestart(stage, mode, inBrowser(browser)));
}
