// Runs in the page: connects with a token that it makes once, subscribes, and records.

import { askEndpoint, cacheAuthorization } from '/campanile-resume.mjs';
import { record, recordChannel, recordEchoChannel } from '/recorder.mjs';

const { echo, key, port, channels, caches, options } = window.settings;
const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
const given = {
  wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], wsPath: `/app/resume-${token}`,
  userAuthentication: { endpoint: '/user-auth', transport: 'ajax' }, ...options,
};
const { customHandler, authorizer } = cacheAuthorization(askEndpoint('/auth'));
const channelAuthorization = caches ? { customHandler } : { endpoint: '/auth', transport: 'ajax' };
const client = echo
  ? new (window.Echo.default ?? window.Echo)({ broadcaster: 'reverb', key, authEndpoint: '/auth', ...(caches && { authorizer }), ...given })
  : new window.Pusher(key, { cluster: '', channelAuthorization, ...given });
window.pusher = echo ? client.connector.pusher : client;
window.log = record(window.pusher);
for (const name of channels) {
  if (echo) recordEchoChannel(window.log, client, name);
  else recordChannel(window.log, window.pusher, name);
}
/** What happened to the page: `freeze`, `resume`, `pagehide`, `pageshow`. */
window.life = [];
for (const event of ['freeze', 'resume']) document.addEventListener(event, () => window.life.push(event));
for (const event of ['pagehide', 'pageshow']) window.addEventListener(event, ({ persisted }) => persisted && window.life.push(event));
