// campanile-resume with the model: exactly once, with all libraries.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import { startModel } from './lib/model.mjs';
import { runSeeds } from './lib/run-seeds.mjs';
import { cacheAuthorization, resume, resumePath } from '../../clients/campanile-resume/dist/campanile-resume.mjs';

const PACKAGE = '../../clients/campanile-resume';
const SEEDS = Array.from({ length: 10 }, (_, at) => at + 1);

/** Runs clients with the helper. Returns `{ violations, repeated }`. */
async function attack(rules) {
  const server = await startModel({ rules });
  try {
    const { results } = await runSeeds(server, { seeds: SEEDS, cuts: 3, options: { before: resume } });
    return { violations: results.flatMap(({ violations }) => violations), repeated: results.reduce((sum, { repeated }) => sum + repeated, 0) };
  } finally {
    server.close();
  }
}

describe('the helper', { concurrency: 3 }, () => {
  test('receives everything exactly once, whatever happens to the line', async () => {
    assert.deepEqual(await attack({}), { violations: [], repeated: 0 });
  });

  test('receives events twice from a server that does not tell it of events that exclude it', async () => {
    const { violations, repeated } = await attack({ tellsExcluded: false });
    // The page counts too few, so that what it has acknowledged may come again as well.
    assert.deepEqual(violations.filter((text) => !/ again, which was acknowledged: /.test(text)), []);
    assert.ok(repeated > 0, 'nothing was repeated');
  });
});

test('a path has a new token each time', () => {
  assert.match(resumePath(), /^\/app\/resume-[0-9a-f]{32}$/);
  assert.match(resumePath('/ws'), /^\/ws\/app\/resume-/);
  assert.notEqual(resumePath(), resumePath());
});

test('the helper has fewer than 40 lines, no dependencies, and its built files are those of its source', async () => {
  const read = (path) => readFileSync(new URL(`${PACKAGE}/${path}`, import.meta.url), 'utf8');
  assert.ok(read('src/resume.mjs').trimEnd().split('\n').length < 40);
  assert.equal(JSON.parse(read('package.json')).dependencies, undefined);
  process.argv.push('--check');
  await import(`${PACKAGE}/build.mjs`);
});

test('the UMD file has the same exports, for require and as a global', async () => {
  const path = `${PACKAGE}/dist/campanile-resume.js`;
  const names = Object.keys(await import(`${PACKAGE}/dist/campanile-resume.mjs`)).sort();
  assert.deepEqual(Object.keys(createRequire(import.meta.url)(path)).sort(), names);
  const global = {};
  new Function('globalThis', 'module', 'define', readFileSync(new URL(path, import.meta.url), 'utf8'))(global, undefined, undefined);
  assert.deepEqual(Object.keys(global.CampanileResume).sort(), names);
});

test('its types fit those of pusher-js and laravel-echo', () => {
  const { status, stdout } = spawnSync(process.execPath, [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '-p', 'types'], {
    cwd: new URL('.', import.meta.url), encoding: 'utf8',
  });
  assert.deepEqual([status, stdout], [0, '']);
});

/** Authorizes through the cache with the handler of pusher-js. */
function ask(cache, socketId, channelName) {
  return new Promise((resolve) => {
    cache.customHandler({ socketId, channelName }, (error, data) => resolve(error ? `error ${error.status}` : data.auth));
  });
}

test('an authorization is asked for once for each socket id and channel', async () => {
  let asked = 0;
  const cache = cacheAuthorization(async (socketId, channel) => ({ auth: `${socketId}:${channel}:${asked += 1}` }));
  const first = await Promise.all([ask(cache, '1.1', 'private-a'), ask(cache, '1.1', 'private-a'), ask(cache, '1.1', 'private-b')]);
  assert.deepEqual(first, ['1.1:private-a:1', '1.1:private-a:1', '1.1:private-b:2']);
  assert.equal(await ask(cache, '1.1', 'private-a'), '1.1:private-a:1');
  assert.equal(await ask(cache, '1.2', 'private-a'), '1.2:private-a:3', 'the socket id has changed');
  assert.equal(await ask(cache, '1.1', 'private-a'), '1.1:private-a:4', 'what belonged to the other socket id is forgotten');
  const byEcho = await new Promise((resolve) => {
    cache.authorizer({ name: 'private-a' }).authorize('1.1', (_, data) => resolve(data.auth));
  });
  assert.equal(byEcho, '1.1:private-a:4');
});

test('the key of an encrypted channel is remembered, though pusher-js takes it out of the answer', async () => {
  const cache = cacheAuthorization(() => ({ auth: 'signed', shared_secret: 'key' }));
  for (const when of ['the first time', 'again']) {
    await new Promise((resolve) => {
      cache.customHandler({ socketId: '1.1', channelName: 'private-encrypted-a' }, (_, data) => {
        assert.equal(data.shared_secret, 'key', when);
        delete data.shared_secret;
        resolve();
      });
    });
  }
});

test('a refusal is not remembered', async () => {
  let asked = 0;
  const cache = cacheAuthorization(async () => {
    asked += 1;
    if (asked === 1) throw Object.assign(new Error('no'), { status: 403 });
    return { auth: 'signed' };
  });
  assert.deepEqual([await ask(cache, '1.1', 'private-a'), await ask(cache, '1.1', 'private-a')], ['error 403', 'signed']);
});
