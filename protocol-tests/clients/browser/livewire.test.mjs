// The example for Livewire: its PHP is parsed, and its listeners and its script run in a real browser with Echo. Livewire itself,
// and so the methods of the component, need a Laravel application, and are not run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { openBrowser } from '../lib/chat.mjs';
import { joined } from '../lib/clients.mjs';
import { servePage } from '../lib/pages.mjs';
import { APP } from '../lib/server.mjs';
import { test } from '../lib/stage.mjs';

const EXAMPLES = fileURLToPath(new URL('../../../examples', import.meta.url));
const [component, view, script] = await Promise.all([
  'app/Livewire/Room.php', 'resources/views/livewire/room.blade.php', 'resources/js/room.js',
].map((file) => readFile(join(EXAMPLES, 'livewire', file), 'utf8')));

/** The listeners of the component for room 1, each with its method. */
const listeners = Array.from(
  component.matchAll(/#\[On\('(echo[^']*)'\)\]\s+public function (\w+)\(/g),
  ([, event, method]) => ({ event: event.replace('{roomId}', '1'), method }),
);

/** The view without members, news and messages. */
const html = view.replace(/@foreach[^]*?@endforeach|@script[^]*@endscript|\{\{--.*--\}\}/g, '');

const browser = await openBrowser();
after(() => browser.close());

/** The page: each listener is registered like in Livewire's js/features/supportLaravelEcho.js, and calls its method. */
function pageOf(server) {
  return `
    import Echo from 'laravel-echo';
    import Pusher from 'pusher-js';
    window.Pusher = Pusher;
    window.Echo = new Echo({
      broadcaster: 'reverb', key: '${APP.key}', wsHost: '127.0.0.1', wsPort: ${server.port}, forceTLS: false,
      enabledTransports: ['ws'],
    });
    ${script}
    document.body.insertAdjacentHTML('beforeend', ${JSON.stringify(html)});
    window.calls = [];
    for (const { event, method } of ${JSON.stringify(listeners)}) {
      const [, kind = 'channel', channel, name] = /^echo(?:-(\\w+))?:([^,]+),(.+)$/.exec(event);
      const target = kind === 'presence' ? window.Echo.join(channel) : window.Echo[kind](channel);
      const call = (data) => window.calls.push([method, data]);
      if (['here', 'joining', 'leaving'].includes(name)) target[name](call); else target.listen(name, call);
    }
    enterRoom(1, document.querySelector('main'));
  `;
}

test('the PHP of the examples for Livewire and Laravel is parsed by PHP', async () => {
  let files = 0;
  for (const example of ['livewire', 'laravel']) {
    for (const file of await readdir(join(EXAMPLES, example), { recursive: true })) {
      if (!file.endsWith('.php') || file.endsWith('.blade.php')) continue;
      await promisify(execFile)('php', ['-l', join(EXAMPLES, example, file)]);
      files += 1;
    }
  }
  assert.ok(files > 7, String(files));
});

test('each listener of the component names a method, and is called with what Echo receives', async (stage) => {
  assert.deepEqual(listeners.map(({ method }) => method), ['headline', 'received', 'here', 'joining', 'leaving']);
  // The members that `routes/channels.php` describes.
  const members = { ann: { id: 1, name: 'Ann' }, bob: { id: 2, name: 'Bob' } };
  const authorize = ({ user, socketId, channel }) => {
    const member = { user_id: String(members[user].id), user_info: members[user] };
    return sdk.authorizeChannel(socketId, channel, channel.startsWith('presence-') ? member : undefined);
  };
  const { server, sdk, backend } = await stage.set({}, { authorize });
  const context = await browser.newContext();
  stage.closing({ close: () => context.close() });
  const page = await context.newPage();
  await page.route('**/broadcasting/auth', async (route) => {
    const headers = { ...route.request().headers(), 'x-user': 'ann' };
    await route.fulfill({ response: await route.fetch({ url: backend.authEndpoint, headers }) });
  });
  const http = stage.closing(await servePage(pageOf(server)));
  await page.goto(http.url);
  const calls = (method) => page.waitForFunction((wanted) => {
    const found = window.calls.filter(([called]) => called === wanted);
    return found.length > 0 && found.map(([, data]) => data);
  }, method).then((found) => found.jsonValue());

  await page.getByRole('status').getByText('connected', { exact: true }).waitFor();
  assert.deepEqual(await calls('here'), [[members.ann]]);
  const bob = stage.echo(server, { backend, user: 'bob' });
  const room = bob.join('room.1');
  await joined(room);
  assert.deepEqual(await calls('joining'), [members.bob]);

  await page.waitForFunction(() => Object.values(window.Echo.connector.channels).every(({ subscription }) => subscription.subscribed));
  await sdk.trigger('private-room.1', 'message.sent', { from: 'Bob', text: 'Hello' });
  await sdk.trigger('news', 'headline', { text: 'Bob wrote a message' });
  assert.deepEqual(await calls('received'), [{ from: 'Bob', text: 'Hello' }]);
  assert.deepEqual(await calls('headline'), [{ text: 'Bob wrote a message' }]);

  room.whisper('typing', {});
  await page.getByText('Bob is typing', { exact: true }).waitFor();
  await page.getByText('Bob is typing', { exact: true }).waitFor({ state: 'hidden' });

  bob.leave('room.1');
  assert.deepEqual(await calls('leaving'), [members.bob]);
});
