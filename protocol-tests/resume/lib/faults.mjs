// A TCP proxy with faults, between clients and a server: resets, black holes, delays, one frozen direction.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { inbox } from '../../clients/lib/waiting.mjs';
import { frameReader } from './frames.mjs';

/**
 * Starts a proxy in front of `server`, which may be replaced later: `{ port }`, or an entrance to several, whose `connect()` resolves with
 * a socket.
 */
export async function startFaults(server) {
  const lines = new Set();
  const state = { server, delay_ms: 0, refuses: false, watchers: new Set() };
  const attempts = inbox('a connection to the proxy');
  const listener = createServer({ noDelay: true, pauseOnConnect: true }, async (client) => {
    client.on('error', () => {});
    const onward = state.refuses ? undefined : await connectTo(state.server);
    if (!onward) {
      client.resetAndDestroy();
      return;
    }
    const line = new Line(client, onward, state);
    lines.add(line);
    client.on('close', () => lines.delete(line));
    attempts(line);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return new Faults(listener, lines, state, attempts);
}

async function connectTo(server) {
  return server.connect ? server.connect() : connect({ port: server.port, host: '127.0.0.1', noDelay: true });
}

class Faults {
  #listener;
  #lines;
  #state;

  constructor(listener, lines, state, attempts) {
    this.#listener = listener;
    this.#lines = lines;
    this.#state = state;
    /** The lines in the order in which clients opened them. */
    this.attempts = attempts;
    this.port = listener.address().port;
  }

  /** The open lines, oldest first. */
  get lines() {
    return [...this.#lines];
  }

  /** Every byte arrives this much later, in both directions. */
  set delay_ms(value) {
    this.#state.delay_ms = value;
  }

  /** Whether new connections are reset. */
  set refuses(value) {
    this.#state.refuses = value;
  }

  /** Connects new lines to this server. */
  set server(value) {
    this.#state.server = value;
  }

  /**
   * Calls `act(message)` right after the `count`th message that fits, `fits({ kind, text, way, line })`: before anything else passes.
   * Resolves with the message.
   */
  at(fits, count = 1, act = () => {}) {
    return new Promise((resolve) => {
      let left = count;
      const watcher = (message) => {
        if (!fits(message)) return;
        left -= 1;
        if (left > 0) return;
        this.#state.watchers.delete(watcher);
        act(message);
        resolve(message);
      };
      this.#state.watchers.add(watcher);
    });
  }

  /**
   * Resets all lines, for both sides; what is on its way is lost. Lines on which the client has sent nothing yet stay: if one of these
   * is lost, pusher-js waits for 15 s.
   */
  reset() {
    this.lines.filter(({ isTalking }) => isTalking).forEach((line) => line.reset());
  }

  /** Nothing passes the open lines from now on. Returns `heal`, which delivers what was held back. */
  blackHole() {
    const held = this.lines;
    held.forEach((line) => line.freeze('both'));
    return () => held.forEach((line) => line.heal());
  }

  close() {
    this.lines.forEach((line) => line.reset());
    this.#listener.close();
  }
}

/** One connection of a client and its connection to the server. */
class Line {
  #sides;
  #held = { up: false, down: false };
  #queues = { up: [], down: [] };
  #isOver = false;
  /** Whether the server has closed the connection, which the client may not know yet. */
  isClosed = false;
  /** Whether the client has sent a message. */
  isTalking = false;

  constructor(client, onward, state) {
    this.#sides = { up: { from: client, to: onward }, down: { from: onward, to: client } };
    for (const way of ['up', 'down']) {
      const { from, to } = this.#sides[way];
      const read = frameReader(({ bytes, ...message }) => {
        this.isTalking ||= way === 'up' && message.kind === 'text';
        this.isClosed ||= way === 'down' && message.kind === 'close';
        this.#after(state.delay_ms, way, () => {
          to.write(bytes);
          if (message.kind) state.watchers.forEach((watcher) => watcher({ ...message, way, line: this }));
        });
      });
      from.on('error', () => this.reset());
      from.on('data', read);
      from.on('end', () => this.#after(state.delay_ms, way, () => to.end()));
      from.resume();
    }
  }

  /** Resets both sides at once. */
  reset() {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const { from } of Object.values(this.#sides)) from.resetAndDestroy();
  }

  /** Resets the client's side only: the server has surely what the client sent, and the client loses what it has not read. */
  resetClient() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sides.up.from.resetAndDestroy();
    this.#sides.up.to.end();
  }

  /** Holds back everything that goes `up` to the server, `down` to the client, or `both`. */
  freeze(way) {
    for (const each of way === 'both' ? ['up', 'down'] : [way]) this.#held[each] = true;
  }

  /** Reads nothing more from the server, whose buffers fill up, until `flow`; what was read arrives. */
  stall() {
    this.#sides.down.from.pause();
  }

  flow() {
    this.#sides.down.from.resume();
  }

  /** Delivers what was held back, and everything after it. */
  heal() {
    for (const way of ['up', 'down']) {
      this.#held[way] = false;
      this.#drain(way);
    }
  }

  #after(delay_ms, way, act) {
    const entry = { act, isDue: delay_ms === 0 };
    this.#queues[way].push(entry);
    if (delay_ms === 0) {
      this.#drain(way);
      return;
    }
    setTimeout(() => {
      entry.isDue = true;
      this.#drain(way);
    }, delay_ms);
  }

  #drain(way) {
    const queue = this.#queues[way];
    while (!this.#isOver && !this.#held[way] && queue[0]?.isDue) queue.shift().act();
  }
}
