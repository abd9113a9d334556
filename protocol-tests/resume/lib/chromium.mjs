// Chromium over the DevTools protocol alone. Playwright keeps its pages visible and focused and turns the back/forward cache off,
// so its pages neither freeze nor sleep.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import WebSocket from 'ws';

import { within } from '../../clients/lib/waiting.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--remote-debugging-port=0',
];
const LISTENS = /DevTools listening on (ws:\S+)/;

export class Chromium {
  #child;
  #folder;
  #socket;
  #calls = new Map();
  #listeners = new Set();
  #count = 0;

  static async start() {
    const chromium = new Chromium();
    chromium.#folder = await mkdtemp(join(tmpdir(), 'campanile-chromium-'));
    const args = [...FLAGS, `--user-data-dir=${chromium.#folder}`, 'about:blank'];
    chromium.#child = spawn(CHROMIUM, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    process.on('exit', () => chromium.#child.kill('SIGKILL'));
    await chromium.#connect(await within(chromium.#address(), 'a browser that listens'));
    return chromium;
  }

  /** Opens a tab in a window of its own, so the others stay visible, and attaches to it. */
  async tab() {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', newWindow: true });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const tab = new Tab(this, targetId, sessionId);
    for (const domain of ['Page', 'Network', 'Runtime']) await tab.send(`${domain}.enable`);
    tab.on('Runtime.exceptionThrown', ({ exceptionDetails: { text, exception } }) => {
      console.error(`the page: ${exception?.description ?? text}`);
    });
    return tab;
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#count += 1;
    const answer = new Promise((resolve, reject) => { this.#calls.set(id, { resolve, reject, method }); });
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    return within(answer, `the answer to ${method}`);
  }

  /** Calls `listener` with the parameters of each event `method` of a session. Returns a function that ends it. */
  on(method, sessionId, listener) {
    const entry = (message) => message.method === method && message.sessionId === sessionId && listener(message.params);
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  async close() {
    const exited = once(this.#child, 'exit');
    this.send('Browser.close').catch(() => {});
    await within(exited, 'the end of the browser').catch(() => this.#child.kill('SIGKILL'));
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #address() {
    let said = '';
    return new Promise((resolve) => {
      this.#child.stderr.setEncoding('utf8').on('data', (text) => {
        said += text;
        if (LISTENS.test(said)) resolve(LISTENS.exec(said)[1]);
      });
    });
  }

  async #connect(address) {
    this.#socket = new WebSocket(address, { perMessageDeflate: false });
    this.#socket.on('message', (text) => this.#hear(JSON.parse(text)));
    await once(this.#socket, 'open');
  }

  #hear(message) {
    const call = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if (message.error) call?.reject(new Error(`${call.method}: ${message.error.message}`));
    else call?.resolve(message.result);
    if (message.method) this.#listeners.forEach((listener) => listener(message));
  }
}

class Tab {
  #chromium;
  #targetId;
  #sessionId;

  constructor(chromium, targetId, sessionId) {
    this.#chromium = chromium;
    this.#targetId = targetId;
    this.#sessionId = sessionId;
  }

  send(method, params) {
    return this.#chromium.send(method, params, this.#sessionId);
  }

  on(method, listener) {
    return this.#chromium.on(method, this.#sessionId, listener);
  }

  /** Navigates, and resolves when the page is loaded. */
  async goTo(url) {
    const loaded = this.#next('Page.loadEventFired');
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** Goes back in the history, and resolves with the type of the navigation. */
  async goBack() {
    const navigated = this.#next('Page.frameNavigated');
    await this.start(() => history.back());
    return (await navigated).type;
  }

  /** Runs a function in the page, and resolves with its result. The function is passed on as text. */
  async run(action, ...args) {
    const expression = `(${action})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Like `run`, but resolves before the function runs. */
  start(action, ...args) {
    return this.run(`(...given) => { setTimeout(() => (${action})(...given)); }`, ...args);
  }

  /** Freezes a hidden page, as a browser does with tabs in the background, and thaws it. */
  setFrozen(isFrozen) {
    return this.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' });
  }

  /** Tells the page that it is offline; open WebSockets stay open. */
  setOffline(offline) {
    return this.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }

  close() {
    return this.#chromium.send('Target.closeTarget', { targetId: this.#targetId });
  }

  #next(method) {
    return within(new Promise((resolve) => {
      const end = this.on(method, (params) => {
        end();
        resolve(params);
      });
    }), method);
  }
}
