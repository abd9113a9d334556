// Publishers that number what they publish.

import { setTimeout as delay } from 'node:timers/promises';

import { EVENT } from './recorder.mjs';

/** A publisher: one event at a time, numbered for each channel. */
export class Publisher {
  #numbers = new Map();

  constructor(sdk, from, published) {
    Object.assign(this, { sdk, from, published });
  }

  /** Publishes to one channel; `except` is the socket id of a client that does not receive it. */
  async publish(channel, { except, pad } = {}) {
    const n = (this.#numbers.get(channel) ?? 0) + 1;
    this.#numbers.set(channel, n);
    const answer = await this.sdk.trigger(channel, EVENT, { from: this.from, n, ...(pad && { pad }) }, except && { socket_id: except });
    this.published.push({ channel, from: this.from, n, except, isUnknown: answer.isUnknown });
  }

  /** Publishes to all `channels` in turn, with pauses of `pause_ms()`, until the returned function is called. */
  start(channels, pause_ms, options = () => ({})) {
    let isOver = false;
    const run = async () => {
      for (let turn = 0; !isOver; turn += 1) {
        await this.publish(channels[turn % channels.length], options());
        await delay(pause_ms());
      }
    };
    const running = run();
    running.catch(() => {});
    return () => {
      isOver = true;
      return running;
    };
  }
}

/** Options of the next event: every seventh excludes one of the clients, as an application does with the author of a message. */
export function excludesInTurn(clients) {
  let turn = 0;
  return () => {
    turn += 1;
    if (turn % 7 > 0) return {};
    return { except: clients[turn % clients.length].client.pusher.connection.socket_id };
  };
}
