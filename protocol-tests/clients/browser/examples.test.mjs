// The examples for React, Vue and pusher-js in a real browser, with two users each.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { openBrowser, startApplication } from '../lib/chat.mjs';
import { APP } from '../lib/server.mjs';
import { test } from '../lib/stage.mjs';
import { until } from '../lib/waiting.mjs';

const EXAMPLES = fileURLToPath(new URL('../../../examples', import.meta.url));

const browser = await openBrowser();
after(() => browser.close());

/** Whether somebody is subscribed to the news. */
async function occupied(sdk) {
  return (await (await sdk.get({ path: '/channels/news' })).json()).occupied;
}

/** Builds an example with the address of `server`, and resolves with the folder of the page. */
async function build(stage, name, server) {
  const folder = join(EXAMPLES, name);
  if (!existsSync(`${folder}/node_modules`)) throw new Error(`no packages yet: npm ci in examples/${name}`);
  if (name === 'pusher-js') return folder;
  const page = await mkdtemp(join(tmpdir(), 'campanile-example-'));
  stage.closing({ close: () => rm(page, { recursive: true }) });
  const env = {
    PATH: process.env.PATH, VITE_REVERB_APP_KEY: APP.key, VITE_REVERB_HOST: '127.0.0.1', VITE_REVERB_PORT: String(server.port),
  };
  await promisify(execFile)(`${folder}/node_modules/.bin/vite`, ['build', '--outDir', page], { cwd: folder, env });
  return page;
}

class Window {
  static async open(url, name) {
    const context = await browser.newContext();
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    page.on('pageerror', (error) => console.error(`${name}'s page: ${error}`));
    await page.goto(`${url}/?name=${name}`);
    return new Window(page);
  }

  constructor(page) {
    this.page = page;
    this.message = page.getByRole('textbox', { name: 'Message' });
  }

  close() {
    return this.page.context().close();
  }

  /** Waits until a list has just these items, in any order. */
  has(list, ...items) {
    return this.page.waitForFunction(([label, expected]) => {
      const found = document.querySelectorAll(`[aria-label=${label}] li`);
      return Array.from(found, (item) => item.textContent).sort().join() === expected;
    }, [list, items.sort().join()]);
  }

  sees(text) {
    return this.page.getByText(text, { exact: true }).waitFor();
  }

  loses(text) {
    return this.page.getByText(text, { exact: true }).waitFor({ state: 'hidden' });
  }

  status(state) {
    return this.page.getByRole('status').getByText(state, { exact: true }).waitFor();
  }
}

for (const name of ['react', 'vue', 'pusher-js']) {
  test(`the example ${name}: members, typing, messages, news, and the state of the connection`, async (stage) => {
    const { server, sdk } = await stage.set();
    const relay = await stage.relay(server);
    const page = await build(stage, name, relay);
    const { url } = stage.closing(await startApplication(relay, join(EXAMPLES, 'auth-server'), ['server.mjs', page]));
    const ann = stage.closing(await Window.open(url, 'Ann'));
    const bob = await Window.open(url, 'Bob');
    await Promise.all([ann, bob].flatMap((window) => [window.status('connected'), window.has('Members', 'Ann', 'Bob')]));

    await Promise.all([ann.sees('Bob is typing'), bob.message.pressSequentially('Hello')]);
    await ann.loses('Bob is typing');

    await bob.message.press('Enter');
    await ann.has('Messages', 'Bob: Hello');
    await bob.has('Messages', 'Bob: Hello');
    await Promise.all([ann, bob].map((window) => window.has('News', 'Bob wrote a message')));
    assert.equal(await bob.message.inputValue(), '');

    await bob.close();
    await ann.has('Members', 'Ann');

    const release = relay.hold();
    relay.cut();
    await ann.loses('connected');
    await until('the server notices the end of the connection', async () => !(await occupied(sdk)));
    release();
    await ann.status('connected');
    await until('the page subscribes again', () => occupied(sdk));
    await sdk.trigger('news', 'headline', { text: 'Back again' });
    await ann.has('News', 'Bob wrote a message', 'Back again');
  });
}
