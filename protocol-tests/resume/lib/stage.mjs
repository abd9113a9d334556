// The channels of a test: four kinds, with publishers, and a witness whose line is never cut.

import { memberOf } from '../../clients/lib/backend.mjs';
import { openSdk } from '../../clients/lib/clients.mjs';
import { until } from '../../clients/lib/waiting.mjs';
import { check, orderOf } from './checker.mjs';
import { openClient } from './clients.mjs';
import { Publisher } from './publishers.mjs';

export const CHANNELS = ['news', 'private-orders', 'presence-room', 'private-encrypted-diary'];
export const PUBLISHERS = ['web', 'worker', 'cron'];
const BURST_EVENT_BYTES = 9_000;
const KEY = Buffer.alloc(32, 'k').toString('base64');

/** A server's channels, with publishers and a witness. */
export class Channels {
  #stops = [];
  #burstPublishers;
  /** See `check`. */
  pings = 1;

  constructor(server, channels = CHANNELS) {
    const options = { encryptionMasterKeyBase64: KEY };
    Object.assign(this, { server, channels, published: [], sdk: server.sdk?.(options) ?? openSdk(server, options) });
    this.publishers = PUBLISHERS.map((from) => new Publisher(this.sdk, from, this.published));
    this.#burstPublishers = PUBLISHERS.map((from) => new Publisher(this.sdk, `${from}-burst`, this.published));
  }

  /** Signs like the application, after `pause()`; the user is the one of the client. */
  signFor(user, pause = () => {}) {
    return async (socketId, channel) => {
      await pause(channel);
      return this.sdk.authorizeChannel(socketId, channel, channel.startsWith('presence-') ? memberOf(user) : undefined);
    };
  }

  /** Authenticates a user who signs in. */
  authenticate(user, socketId) {
    return this.sdk.authenticateUser(socketId, { id: user, user_info: {} });
  }

  /** Connects the witness, and returns when it is subscribed. */
  async open() {
    this.witness = openClient(this.server, { library: { pusher: 8 }, channels: this.channels, sign: this.signFor('witness'), options: { activityTimeout: 120_000 } });
    await isSubscribed(() => this.witness.log, this.channels);
  }

  publish(pause_ms, options) {
    this.#stops = this.publishers.map((publisher, at) => publisher.start(rotated(this.channels, at), pause_ms, options));
  }

  /** Publishes `count` events to each channel, one after the other. */
  async publishMany(count) {
    for (let at = 0; at < count; at += 1) {
      for (const channel of this.channels) await this.publishers[at % this.publishers.length].publish(channel);
    }
  }

  /** Publishes `bytes` to the first channel in large events, as fast as possible. */
  async burst(bytes) {
    const count = Math.ceil(bytes / BURST_EVENT_BYTES / this.#burstPublishers.length);
    await Promise.all(this.#burstPublishers.map(async (source) => {
      for (let at = 0; at < count; at += 1) await source.publish(this.channels[0], { pad: 'x'.repeat(BURST_EVENT_BYTES) });
    }));
  }

  /** Waits until `count` more events are published. */
  async publishesMore(count) {
    const enough = this.published.length + count;
    await until(`${count} more published events`, () => this.published.length >= enough);
  }

  /** Ends publishing. The last event of each channel is published when all clients are back, and arrives at the witness. */
  async end() {
    await Promise.all(this.#stops.map((stop) => stop()));
    for (const channel of this.channels) await this.publishers[0].publish(channel);
    const last = this.published.slice(-this.channels.length);
    await hasAll(() => this.witness.log, last);
    return last;
  }

  /** The order of a channel's events. */
  orderOf(channel) {
    return orderOf(this.witness.log, channel, this.published);
  }

  /** The results of `log` for all channels together. */
  judge(log) {
    const results = this.channels.map((channel) => check(log, channel, this.orderOf(channel), this.pings));
    const sum = (key) => results.reduce((total, result) => total + result[key], 0);
    return {
      violations: results.flatMap(({ violations }) => violations),
      ...Object.fromEntries(['received', 'repeated', 'gaps', 'missed'].map((key) => [key, sum(key)])),
      socketIds: new Set(log.filter(({ kind }) => kind === 'connected').map(({ socketId }) => socketId)).size,
      connections: log.filter(({ kind }) => kind === 'connected').length,
    };
  }

  close() {
    this.witness?.disconnect();
  }
}

/** Waits until the log has a connection after `from` on which all channels are subscribed. `read` returns the log. */
export function isSubscribed(read, channels, from = 0, when = '') {
  return until(`the subscriptions ${when}`, async () => {
    const log = await read();
    const at = log.findLastIndex(({ kind }) => kind === 'connected');
    if (at < from) return false;
    const acknowledged = new Set(log.slice(at).filter(({ kind }) => kind === 'subscribed').map(({ channel }) => channel));
    return channels.every((channel) => acknowledged.has(channel));
  }, 30_000);
}

/** Waits until the log has all `events`. */
export function hasAll(read, events) {
  return until('the last events', async () => {
    const log = await read();
    return events.every((event) => has(log, event));
  });
}

/** Whether the log has the event. */
function has(log, { channel, from, n }) {
  return log.some((entry) => entry.kind === 'event' && entry.channel === channel && entry.from === from && entry.n === n);
}

function rotated(list, by) {
  return [...list.slice(by % list.length), ...list.slice(0, by % list.length)];
}
