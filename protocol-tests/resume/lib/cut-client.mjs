// Clients whose lines are cut: in this process, and in tabs of a browser.

import { setTimeout as delay } from 'node:timers/promises';

import { APP } from '../../clients/lib/server.mjs';
import { LIFE_OF_7_MS, nameOf, openClient, resumePath, SHORT_TIMEOUTS } from './clients.mjs';
import { CUTS, SHORT_LIVED } from './cuts.mjs';
import { startFaults } from './faults.mjs';
import { randomFrom } from './random.mjs';
import { startSite } from './site.mjs';
import { hasAll, isSubscribed } from './stage.mjs';

/** How long the application takes to sign. */
const SIGN_MS = [0, 0, 30, 90];

/** A client behind a proxy of its own, whose line is cut as `seed` says. Where it runs is up to the classes below. */
class CutClient {
  #held;

  constructor(channels, library, seed) {
    Object.assign(this, { channels, library, random: randomFrom(seed), user: `user-${seed}`, cuts: [] });
  }

  /** Starts the proxy. The client is given its port. */
  async connect(open) {
    this.proxy = await startFaults(this.channels.server);
    this.proxy.delay_ms = this.random.pick([0, 0, 5, 20]);
    await open(this.proxy);
    await this.isSubscribed();
  }

  /** Signs like the application, sooner or later. */
  sign(socketId, channel) {
    return this.channels.signFor(this.user, () => this.#beforeSigning(channel))(socketId, channel);
  }

  /** Waits until all channels are subscribed on a connection that was opened after the log had `from` entries. */
  isSubscribed(from, when) {
    return isSubscribed(() => this.log(), this.channels.channels, from, when);
  }

  /** Cuts the line `count` times, each time when the client is back: at once, within 150 ms, or within 600 ms. */
  async suffer(count, names = Object.keys(CUTS)) {
    const isOld = this.library.pusher === 7;
    const suitable = names.filter((name) => !isOld || !SHORT_LIVED.includes(name));
    const possible = suitable.length > 0 ? suitable : ['reset'];
    for (let at = 0; at < count; at += 1) {
      await delay((isOld ? LIFE_OF_7_MS : 0) + this.random.pick([0, this.random.below(150), this.random.below(600)]));
      const name = this.random.pick(possible);
      this.cuts.push(name);
      const before = (await this.log()).length;
      await CUTS[name](this.proxy, this.random, { channels: this.channels.channels, holdSignature: (channel) => this.#holdSignature(channel) });
      await this.isSubscribed(before, `after ${name}`);
    }
  }

  #beforeSigning(channel) {
    if (this.#held?.channel !== channel) return delay(this.random.pick(SIGN_MS));
    const { asked, released } = this.#held;
    this.#held = undefined;
    asked();
    return released;
  }

  /** The next signature of `channel` is given when it is released. */
  #holdSignature(channel) {
    let asked;
    let release;
    const isAsked = new Promise((resolve) => { asked = resolve; });
    const released = new Promise((resolve) => { release = resolve; });
    this.#held = { channel, asked, released };
    return { isAsked, release };
  }

  /** Waits for `last`, and compares the log with the channels. */
  async judge(last) {
    const late = await hasAll(() => this.log(), last).then(() => [], (error) => [error.message]);
    const result = this.channels.judge(await this.log());
    return { ...result, name: nameOf(this.library), cuts: this.cuts, violations: [...late, ...result.violations] };
  }

  async close() {
    await this.disconnect?.();
    this.proxy?.close();
  }
}

/** A client in this process. */
export class NodeClient extends CutClient {
  open(options = {}) {
    return this.connect((proxy) => {
      this.client = openClient(proxy, {
        library: this.library,
        channels: this.channels.channels,
        sign: (socketId, channel) => this.sign(socketId, channel),
        ...options,
        options: { wsPath: resumePath(), ...options.options },
      });
    });
  }

  log() {
    return this.client.log;
  }

  disconnect() {
    this.client?.disconnect();
  }
}

/** A client in a tab of a browser. */
export class PageClient extends CutClient {
  async open(browser, options = {}) {
    this.site = await startSite((socketId, channel) => this.sign(socketId, channel));
    this.tab = await browser.tab();
    const { library, channels: { channels } } = this;
    await this.connect(({ port }) => this.tab.goTo(this.site.pageWith({
      library, channels, port, key: APP.key, options: { ...SHORT_TIMEOUTS, ...options },
    })));
  }

  log() {
    return this.tab.run(() => window.log ?? []);
  }

  async disconnect() {
    await this.tab?.close();
    this.site?.close();
  }
}
