// The files in `console/dist`, which the server embeds: what the source gives, and small.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const CONSOLE = fileURLToPath(new URL('../../../console', import.meta.url));
const MAX_BYTES = 200 * 1024;

async function filesOf(folder) {
  const names = (await readdir(folder)).sort();
  return Promise.all(names.map(async (name) => ({ name, content: await readFile(join(folder, name)) })));
}

test('the committed files are those that the source gives', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'campanile-console-'));
  try {
    await promisify(execFile)(process.execPath, [join(CONSOLE, 'build.mjs'), folder]);
    const built = await filesOf(folder);
    const committed = await filesOf(join(CONSOLE, 'dist'));
    assert.deepEqual(committed.map(({ name }) => name), built.map(({ name }) => name));
    for (const [at, { name, content }] of built.entries()) {
      assert.ok(content.equals(committed[at].content), `${name} differs: npm run build in console, and commit dist`);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('all files together stay below 200 KiB', async () => {
  const files = await filesOf(join(CONSOLE, 'dist'));
  assert.deepEqual(files.map(({ name }) => name), ['app.css', 'app.js', 'icon.svg', 'index.html']);
  const bytes = files.reduce((sum, { content }) => sum + content.length, 0);
  assert.ok(bytes < MAX_BYTES, `${bytes} bytes, at most ${MAX_BYTES} are allowed`);
});

test('the files need no other server, and the page no inline code', async () => {
  const files = await filesOf(join(CONSOLE, 'dist'));
  for (const { name, content } of files) {
    const hosts = [...content.toString().matchAll(/(?:https?|wss?):\/\/([\w.-]+)/g)].map(([, host]) => host);
    // The name of a namespace of XML is no address.
    assert.deepEqual(hosts.filter((host) => host !== 'www.w3.org'), [], name);
  }
  const page = files.find(({ name }) => name === 'index.html').content.toString();
  assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:/i);
  assert.deepEqual([...page.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, address]) => address), ['icon.svg', 'app.css', 'app.js']);
});
