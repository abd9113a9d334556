// Clients whose lines are cut: in this process, and in tabs of a browser.

import { setTimeout as delay } from 'node:timers/promises';

import { cacheAuthorization } from '../../../clients/campanile-resume/dist/campanile-resume.mjs';
import { APP } from '../../clients/lib/server.mjs';
import { until } from '../../clients/lib/waiting.mjs';
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
  /** How often the application was asked for an authorization. */
  signatures = 0;

  constructor(channels, library, seed) {
    Object.assign(this, { channels, library, random: randomFrom(seed), user: `user-${seed}`, cuts: [] });
  }

  /** Starts the proxy. The client is given its port. */
  async connect(open) {
    const { server } = this.channels;
    this.entrance = server.entrance?.() ?? server;
    this.proxy = await startFaults(this.entrance);
    this.proxy.delay_ms = this.random.pick([0, 0, 5, 20]);
    await open(this.proxy);
    await this.isSubscribed();
  }

  /** Signs like the application, sooner or later. */
  sign(socketId, channel) {
    this.signatures += 1;
    return this.channels.signFor(this.user, () => this.#beforeSigning(channel))(socketId, channel);
  }

  /** Waits until all channels are subscribed on a connection that was opened after the log had `from` entries. */
  isSubscribed(from, when) {
    return isSubscribed(() => this.log(), this.channels.channels, from, when);
  }

  /** Cuts the line `count` times, each time when the client is back: at once, within 150 ms, or within 600 ms. */
  async suffer(count, names = Object.keys(CUTS)) {
    const { isOld } = this;
    const suitable = names.filter((name) => !isOld || !SHORT_LIVED.includes(name));
    const possible = suitable.length > 0 ? suitable : ['reset'];
    for (let at = 0; at < count; at += 1) {
      await this.canBeCut();
      await delay(this.random.pick([0, this.random.below(150), this.random.below(600)]));
      const name = this.random.pick(possible);
      this.cuts.push(name);
      const before = (await this.log()).length;
      await CUTS[name](this.proxy, this.random, { channels: this.channels.channels, holdSignature: (channel) => this.#holdSignature(channel) });
      await this.isSubscribed(before, `after ${name}`);
    }
  }

  get isOld() {
    return this.library.pusher === 7;
  }

  /** Waits until pusher-js 7 bears a cut. */
  canBeCut() {
    return delay(this.isOld ? LIFE_OF_7_MS : 0);
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

  /** Waits for `last`. Resolves with what is wrong if they do not arrive. */
  arrive(last) {
    return hasAll(() => this.log(), last).then(() => [], (error) => [error.message]);
  }

  /** Waits for `last`, and compares the log with the channels. */
  async judge(last) {
    const late = await this.arrive(last);
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
  /** `caches`: it remembers authorizations, with the cache of campanile-resume. */
  open({ options, caches, ...given } = {}) {
    const sign = (socketId, channel) => this.sign(socketId, channel);
    const { customHandler, authorizer } = cacheAuthorization(sign);
    const userAuthentication = { customHandler: ({ socketId }, done) => done(null, this.channels.authenticate(this.user, socketId)) };
    return this.connect((proxy) => {
      this.client = openClient(proxy, {
        library: this.library,
        channels: this.channels.channels,
        sign,
        ...given,
        options: { wsPath: resumePath(), userAuthentication, ...(caches && { channelAuthorization: { customHandler }, authorizer }), ...options },
      });
    });
  }

  log() {
    return this.client.log;
  }

  async signIn() {
    const { pusher } = this.client;
    pusher.signin();
    await until('a signed-in user', () => pusher.user.user_data);
  }

  disconnect() {
    this.client?.disconnect();
  }
}

/** A client in a tab of a browser. */
export class PageClient extends CutClient {
  /** `caches`: see `NodeClient`. */
  async open(browser, options = {}, caches = false) {
    const authenticate = (socketId) => this.channels.authenticate(this.user, socketId);
    this.site = await startSite((socketId, channel) => this.sign(socketId, channel), authenticate);
    this.tab = await browser.tab();
    const { library, channels: { channels } } = this;
    await this.connect(({ port }) => this.tab.goTo(this.site.pageWith({
      library, channels, port, key: APP.key, caches, options: { ...SHORT_TIMEOUTS, ...options },
    })));
  }

  log() {
    return this.tab.run(() => window.log ?? []);
  }

  async signIn() {
    await this.tab.run(() => window.pusher.signin());
    await until('a signed-in user', () => this.tab.run(() => Boolean(window.pusher.user.user_data)));
  }

  async disconnect() {
    await this.tab?.close();
    this.site?.close();
  }
}
