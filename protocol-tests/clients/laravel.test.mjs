// Campanile runs with the `.env` of a Laravel project as its only configuration.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import nodeTest from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { joined, openSdk } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

const FOLDER = fileURLToPath(new URL('../../examples/laravel', import.meta.url));
const EXAMPLE = `${FOLDER}/.env.example`;

test('in a folder with the .env of the Laravel example, the app of that .env is served', async (stage) => {
  const { env, app } = await example();
  const server = await stage.serverAmong({ '.env': env });
  const sdk = openSdk(server, app);
  const echo = stage.echo(server, { key: app.key, backend: await stage.backend(sdk), user: 'ann' });
  const heard = inbox('the event');

  await joined(echo.private('conversations.7').listen('.message.sent', heard));
  await sdk.trigger('private-conversations.7', 'message.sent', { text: 'It rings' });

  assert.deepEqual(await heard.next(), { text: 'It rings' });
});

test('under a path, Echo has it as wsPath, and PHP may publish without it', async (stage) => {
  const { env, app } = await example();
  const server = await stage.serverAmong({ '.env': `${env}\nREVERB_SERVER_PATH=/ws/\n` });
  // Pusher's SDK for Node has no path, and sends what PHP's sends if its path is `/ws`.
  const sdk = openSdk(server, app);
  const echo = stage.echo(server, { key: app.key, wsPath: '/ws' });
  const heard = inbox('the event');

  await joined(echo.channel('news').listen('.headline', heard));
  await sdk.trigger('news', 'headline', { text: 'It rings' });

  assert.deepEqual(await heard.next(), { text: 'It rings' });
});

nodeTest('PHP parses each file of the example', async () => {
  const entries = await readdir(FOLDER, { recursive: true });
  const files = entries.filter((name) => name.endsWith('.php'));
  assert.ok(files.length > 8);
  for (const file of files) await promisify(execFile)('php', ['-l', file], { cwd: FOLDER });
});

/** The example's `.env`, and its app. */
async function example() {
  const env = await readFile(EXAMPLE, 'utf8');
  const [id, key, secret] = ['ID', 'KEY', 'SECRET'].map((name) => new RegExp(`^REVERB_APP_${name}=(.+)$`, 'm').exec(env)[1]);
  return { env, app: { id, key, secret } };
}
