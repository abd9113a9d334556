// Starts the chat: a small application server that uses Campanile.

import Pusher from 'pusher';

import { createChat } from './app/chat.mjs';

const env = process.env;

/** The address of Campanile, and the credentials of the app. The defaults are those of the development app. */
const campanile = {
  appId: env.PUSHER_APP_ID ?? 'app-id',
  key: env.PUSHER_APP_KEY ?? 'app-key',
  secret: env.PUSHER_APP_SECRET ?? 'app-secret',
  host: env.PUSHER_HOST ?? '127.0.0.1',
  port: Number(env.PUSHER_PORT ?? 8080),
  useTLS: env.PUSHER_SCHEME === 'https',
};

const sdk = new Pusher({ ...campanile, timeout: 5_000 });
const chat = createChat({ campanile, sdk });

chat.listen(Number(env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`The chat is on http://127.0.0.1:${chat.address().port}`);
  console.log(`It publishes through Campanile on ${campanile.host}:${campanile.port}. Open it in two windows.`);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    chat.close();
    chat.closeAllConnections();
  });
}
