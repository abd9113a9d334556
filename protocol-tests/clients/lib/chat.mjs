// The chat in `examples/chat` with a Campanile, and a browser.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { APP } from './server.mjs';
import { within } from './waiting.mjs';

const CHAT = fileURLToPath(new URL('../../../examples/chat', import.meta.url));
const ADDRESS = /http:\/\/127\.0\.0\.1:\d+/;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** Starts the chat as a separate process, like `npm start`, and resolves with its address. */
export function startChat(server) {
  if (!existsSync(`${CHAT}/node_modules`)) throw new Error('the chat has no packages yet: npm ci in examples/chat');
  return startApplication(server, CHAT, ['server.mjs']);
}

/** Starts an application of Node in `folder` that uses `server`, and resolves with the address that it prints. */
export async function startApplication(server, folder, args) {
  const env = {
    PATH: process.env.PATH,
    PORT: '0',
    PUSHER_APP_ID: APP.id,
    PUSHER_APP_KEY: APP.key,
    PUSHER_APP_SECRET: APP.secret,
    PUSHER_PORT: String(server.port),
  };
  const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  process.on('exit', () => child.kill('SIGKILL'));
  let said = '';
  const address = new Promise((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text) => {
      said += text;
      if (ADDRESS.test(said)) resolve(ADDRESS.exec(said)[0]);
    });
  });
  const early = exited.then(() => { throw new Error(`${folder} ended before it listened: ${said}`); });
  early.catch(() => {});
  const url = await within(Promise.race([address, early]), 'an application that listens');
  return { url, close: async () => { child.kill('SIGTERM'); await within(exited, 'the end of the application'); } };
}

export function openBrowser(options) {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS, chromiumSandbox: false, ...options });
}

/** Opens windows of two users in the same room; each shows the other. */
export async function annAndBob(stage, browser) {
  const server = await stage.server();
  return { server, ...await annAndBobOf(stage, browser, server) };
}

/** The same with a server that was started already, or a proxy in front of it. */
export async function annAndBobOf(stage, browser, server) {
  const chat = stage.closing(await startChat(server));
  const ann = stage.closing(await openWindow(browser, chat.url, 'Ann'));
  const bob = stage.closing(await openWindow(browser, chat.url, 'Bob'));
  await ann.sees(ann.member('Bob'));
  await bob.sees(bob.member('Ann'));
  return { ann, bob };
}

/** Opens a window with a separate browser context, like that of another user on another machine. */
export async function openWindow(browser, url, name, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`${name}'s page: ${error}`));
  await page.goto(url);
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Enter' }).click();
  return new Window(page);
}

/** A window of the chat, with the actions and elements of the page. */
class Window {
  constructor(page) {
    this.page = page;
    this.here = page.getByRole('list', { name: 'Who is here' }).getByRole('listitem');
    this.messages = page.getByRole('log', { name: 'Messages' });
    this.composer = page.getByRole('textbox', { name: 'Message' });
    this.typing = page.locator('#typing');
    this.connection = page.locator('#connection');
    this.notice = page.getByRole('alert');
  }

  async say(text) {
    await this.composer.fill(text);
    await this.composer.press('Enter');
  }

  async sees(locator, timeout_ms) {
    await locator.waitFor({ state: 'visible', timeout: timeout_ms });
  }

  async loses(locator, timeout_ms) {
    await locator.waitFor({ state: 'hidden', timeout: timeout_ms });
  }

  /** Loses the network, and with it the line; `proxy` resets all lines, and others return. */
  async goOffline(proxy) {
    await this.page.context().setOffline(true);
    proxy.reset();
    await this.loses(this.connection.getByText('Connected'));
  }

  async comeBack() {
    await this.page.context().setOffline(false);
    await this.sees(this.connection.getByText('Connected'));
  }

  message(text) {
    return this.messages.getByText(text, { exact: true });
  }

  member(name) {
    return this.here.getByText(name, { exact: true });
  }

  close() {
    return this.page.context().close();
  }
}
