// Campanile runs with the `.env` of a Laravel project as its only configuration.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { joined, openSdk } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

const EXAMPLE = new URL('../../examples/laravel/.env.example', import.meta.url);

test('in a folder with the .env of the Laravel example, the app of that .env is served', async (stage) => {
  const env = await readFile(EXAMPLE, 'utf8');
  const [id, key, secret] = ['ID', 'KEY', 'SECRET'].map((name) => new RegExp(`^REVERB_APP_${name}=(.+)$`, 'm').exec(env)[1]);
  const server = await stage.serverAmong({ '.env': env });
  const sdk = openSdk(server, { id, key, secret });
  const echo = stage.echo(server, { key, backend: await stage.backend(sdk), user: 'ann' });
  const heard = inbox('the event');

  await joined(echo.private('conversations.7').listen('.message.sent', heard));
  await sdk.trigger('private-conversations.7', 'message.sent', { text: 'It rings' });

  assert.deepEqual(await heard.next(), { text: 'It rings' });
});
