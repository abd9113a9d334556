// Encrypted channels in a browser, with the build of pusher-js that can decrypt.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openBrowser } from '../lib/chat.mjs';
import { openSdk } from '../lib/clients.mjs';
import { serve } from '../lib/pages.mjs';
import { APP } from '../lib/server.mjs';
import { test } from '../lib/stage.mjs';
import { inbox } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

test('pusher-js/with-encryption decrypts in the browser what the SDK encrypts', async (stage) => {
  const server = await stage.server();
  const sdk = openSdk(server, { encryptionMasterKeyBase64: Buffer.alloc(32, 'k').toString('base64') });
  const site = stage.closing(await serve('<!doctype html><script src="/pusher-with-encryption.js"></script>'));
  const context = stage.closing(await browser.newContext());
  const page = await context.newPage();
  const told = inbox('what the page tells');
  await page.exposeFunction('tell', told);
  await page.exposeFunction('sign', (socketId, channel) => sdk.authorizeChannel(socketId, channel));
  await page.goto(site.url);

  await page.evaluate(subscribe, { key: APP.key, port: server.port });
  assert.equal(await told.next(), 'subscribed');
  await sdk.trigger('private-encrypted-diary', 'entry', { text: 'für dich 🔑' });

  assert.deepEqual(await told.next(), { text: 'für dich 🔑' });
});

/** Runs in the page. */
function subscribe({ key, port }) {
  const pusher = new window.Pusher(key, {
    cluster: '',
    wsHost: '127.0.0.1',
    wsPort: port,
    forceTLS: false,
    enabledTransports: ['ws'],
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) => {
        window.sign(socketId, channelName).then((signed) => done(null, signed), done);
      },
    },
  });
  const channel = pusher.subscribe('private-encrypted-diary');
  channel.bind('pusher:subscription_succeeded', () => window.tell('subscribed'));
  channel.bind('entry', window.tell);
}
