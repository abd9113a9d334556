// The snippets that `campanile start` prints in an empty directory work when they are pasted.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after } from 'node:test';
import { promisify } from 'node:util';

import { openBrowser } from '../lib/chat.mjs';
import { openSdk } from '../lib/clients.mjs';
import { servePage } from '../lib/pages.mjs';
import { test } from '../lib/stage.mjs';
import { inbox, until, within } from '../lib/waiting.mjs';

const browser = await openBrowser();
after(() => browser.close());

const DEVELOPMENT = { id: 'app-id', key: 'app-key', secret: 'app-secret' };

test('the lines for Laravel Echo receive an event', async (stage) => {
  const { server, sdk, logged } = await pasted(stage, '// Laravel Echo');

  await until('the subscription', () => occupied(sdk));
  await sdk.trigger('my-channel', 'hello', { text: 'Hi there' });

  assert.deepEqual(await logged.next(), { text: 'Hi there' });
  assert.match(server.banner, /app-id[\s\S]*app-key[\s\S]*app-secret/);
});

test('the lines for pusher-js receive an event', async (stage) => {
  const { sdk, logged } = await pasted(stage, '// pusher-js');

  await until('the subscription', () => occupied(sdk));
  await sdk.trigger('my-channel', 'hello', { text: 'Hi there' });

  assert.deepEqual(await logged.next(), { text: 'Hi there' });
});

test('the lines for the shell publish an event', async (stage) => {
  const { server, sdk, logged } = await pasted(stage, '// pusher-js');

  await until('the subscription', () => occupied(sdk));
  const shell = promisify(execFile)('bash', ['-euc', await paragraph(server, '# Publish')]);
  const { stdout } = await within(shell, 'the shell');

  assert.equal(stdout, '{}');
  assert.deepEqual(await logged.next(), { text: 'Hi there' });
});

test('the address of the console opens it without a password', async (stage) => {
  const server = await stage.serverAmong({});
  const [, address] = /console (http:\S+)/.exec(server.banner);
  const page = await browser.newPage();
  await page.goto(address);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.close();
});

/** A server in an empty directory, and a page with the lines of its banner that begin with `title`. */
async function pasted(stage, title) {
  const server = await stage.serverAmong({});
  const site = stage.closing(await servePage(await paragraph(server, title)));
  const context = stage.closing(await browser.newContext());
  const page = await context.newPage();
  const logged = inbox('what the page logs');
  page.on('console', async (message) => logged(await message.args()[0]?.jsonValue()));
  page.on('pageerror', (error) => logged(`the page failed: ${error}`));
  await page.goto(site.url);
  return { server, logged, sdk: openSdk(server, DEVELOPMENT) };
}

/** The lines from the one that begins with `title` to the next empty one. */
function paragraph(server, title) {
  return until(`lines that begin with ${title}`, () => {
    const complete = server.banner.split(/\n\s*\n/).slice(0, -1);
    return complete.find((lines) => lines.startsWith(title));
  });
}

async function occupied(sdk) {
  return (await (await sdk.get({ path: '/channels/my-channel' })).json()).occupied;
}
