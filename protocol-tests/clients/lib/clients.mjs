// The clients under test, unmodified from npm, connected to a server of the test.

import Echo from 'laravel-echo';
import Pusher from 'pusher';
import PusherJs from 'pusher-js';

import { APP } from './server.mjs';
import { inbox, within } from './waiting.mjs';

/** The server SDK of the application. */
export function openSdk(server, options = {}) {
  const { id, key, secret } = { ...APP, ...options };
  return new Pusher({ appId: id, key, secret, host: '127.0.0.1', port: server.port, useTLS: false, ...options });
}

/** pusher-js, with WebSockets only. `user` is the user that the application authenticates. */
export function openPusher(server, { backend, user, key = APP.key, ...options } = {}) {
  const headers = user ? { 'X-User': user } : {};
  return new PusherJs(key, {
    cluster: '',
    wsHost: '127.0.0.1',
    wsPort: server.port,
    forceTLS: false,
    enabledTransports: ['ws'],
    channelAuthorization: { endpoint: backend?.authEndpoint, transport: 'ajax', headers },
    userAuthentication: { endpoint: backend?.userAuthEndpoint, transport: 'ajax', headers },
    ...options,
  });
}

/** Laravel Echo with the options of Laravel's own `echo.js`. */
export function openEcho(server, { backend, user, ...options } = {}) {
  const headers = user ? { 'X-User': user } : {};
  return new Echo({
    broadcaster: 'reverb',
    Pusher: PusherJs,
    key: APP.key,
    wsHost: '127.0.0.1',
    wsPort: server.port,
    wssPort: server.port,
    forceTLS: false,
    enabledTransports: ['ws', 'wss'],
    authEndpoint: backend?.authEndpoint,
    auth: { headers },
    userAuthentication: { endpoint: backend?.userAuthEndpoint, headers },
    ...options,
  });
}

/** Waits until a pusher-js client is in `state`. */
export async function inState(pusher, state) {
  if (pusher.connection.state === state) return;
  const changed = new Promise((resolve) => {
    const look = () => {
      if (pusher.connection.state !== state) return;
      pusher.connection.unbind('state_change', look);
      resolve();
    };
    pusher.connection.bind('state_change', look);
  });
  await within(changed, `the state ${state}, it is ${pusher.connection.state}`);
}

/** Waits until a channel of pusher-js is subscribed, and fails at once if it is rejected. */
export async function subscribed(channel) {
  if (channel.subscribed) return channel;
  const answered = new Promise((resolve, reject) => {
    channel.bind('pusher:subscription_succeeded', () => resolve(channel));
    channel.bind('pusher:subscription_error', (error) => reject(new Error(`${channel.name}: ${JSON.stringify(error)}`)));
  });
  return within(answered, `the subscription of ${channel.name}`);
}

/** Waits until a channel of Echo is subscribed. */
export async function joined(channel) {
  await subscribed(channel.subscription);
  return channel;
}

/** Records the `pusher:error`s and close codes of a pusher-js client: `{ code, message }`. */
export function errorsOf(pusher) {
  const heard = inbox('an error on the connection', (error) => error.data ?? error.error?.data ?? error);
  pusher.connection.bind('error', heard);
  return heard;
}

/**
 * Waits until the server has handled all earlier messages of `pusher`.
 *
 * The messages of one connection are handled in order, so the answer to a later one is sufficient.
 */
export async function settled(pusher) {
  const name = `settled-${settled.count += 1}`;
  await subscribed(pusher.subscribe(name));
}
settled.count = 0;
