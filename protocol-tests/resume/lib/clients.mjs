// The clients under test in Node, unmodified: pusher-js 7 and 8, laravel-echo 1 and 2.

import { randomBytes } from 'node:crypto';

import Echo1 from 'laravel-echo-1';
import Echo2 from 'laravel-echo-2';
import Pusher7 from 'pusher-js-7';
import Pusher8 from 'pusher-js-8';

import { APP } from '../../clients/lib/server.mjs';
import { record, recordChannel, recordEchoChannel } from './recorder.mjs';

export const PUSHERS = { 7: Pusher7, 8: Pusher8 };
export const ECHOS = { 1: Echo1.default ?? Echo1, 2: Echo2 };
/** Every combination that is in use. */
export const LIBRARIES = [{ pusher: 7 }, { pusher: 8 }, { pusher: 7, echo: 1 }, { pusher: 8, echo: 1 }, { pusher: 8, echo: 2 }];

/** Times after which pusher-js notices a dead line: its own options, shorter than their defaults. */
export const SHORT_TIMEOUTS = { activityTimeout: 250, pongTimeout: 400 };
/**
 * pusher-js 7 fails for good after the second line that ends uncleanly within twice `activityTimeout` of its opening; 8 has no such limit.
 * So its lines live longer than this before they are cut.
 */
export const LIFE_OF_7_MS = 2 * SHORT_TIMEOUTS.activityTimeout + 100;

/** A path with a token, as a page makes it once. */
export function resumePath() {
  return `/app/resume-${randomBytes(16).toString('hex')}`;
}

export function nameOf({ pusher, echo }) {
  return `pusher-js ${pusher}${echo ? ` and laravel-echo ${echo}` : ''}`;
}

/** Opens a client, subscribes to `channels`, and records. `sign` authorizes: `(socketId, channel) => answer`. */
export function openClient({ port }, { library, channels, sign, options = {}, before = () => {} }) {
  const given = {
    wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], ...SHORT_TIMEOUTS, ...options,
  };
  const answer = (socketId, channel, done) => {
    Promise.resolve().then(() => sign(socketId, channel)).then((signed) => done(null, signed), (error) => done(error, null));
  };
  const Pusher = PUSHERS[library.pusher];
  const client = library.echo ? new ECHOS[library.echo]({
    broadcaster: 'reverb', key: APP.key, Pusher, authorizer: ({ name }) => ({ authorize: (socketId, done) => answer(socketId, name, done) }), ...given,
  }) : new Pusher(APP.key, {
    cluster: '', channelAuthorization: { customHandler: ({ socketId, channelName }, done) => answer(socketId, channelName, done) }, ...given,
  });
  const pusher = client.connector?.pusher ?? client;
  before(client);
  const log = record(pusher);
  for (const name of channels) {
    if (library.echo) recordEchoChannel(log, client, name);
    else recordChannel(log, pusher, name);
  }
  return { client, pusher, log, disconnect: () => client.disconnect() };
}
