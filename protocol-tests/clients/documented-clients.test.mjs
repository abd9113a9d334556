// docs/clients.md: its versions are those that are tested, and its snippets for JavaScript connect.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import Echo from 'laravel-echo';
import Sdk from 'pusher';
import PusherJs from 'pusher-js';

import { inState } from './lib/clients.mjs';
import { APP } from './lib/server.mjs';
import { test } from './lib/stage.mjs';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const page = read('docs/clients.md');

/** The snippet that begins with `text`, for `server`. */
function snippet(text, server) {
  const code = page.split('```js\n').map((part) => part.split('```')[0]).find((part) => part.startsWith(text));
  const { id, key, secret } = APP;
  const ours = {
    'ws.example.com': '127.0.0.1', 443: server.port, 'TLS: true': 'TLS: false', 'app-id': id, 'app-key': key, 'app-secret': secret,
  };
  return Object.entries(ours).reduce((all, [from, to]) => all.replaceAll(from, to), code);
}

test('the versions of tested libraries are those of the lock files', async () => {
  const locks = ['protocol-tests/clients', 'examples/react', 'examples/vue'].map((folder) => read(`${folder}/package.json`));
  const npm = Object.assign({}, ...locks.flatMap((text) => {
    const { dependencies, devDependencies } = JSON.parse(text);
    return [dependencies, devDependencies];
  }));
  const python = Object.fromEntries(
    read('protocol-tests/python/requirements.txt').trim().split('\n').map((line) => line.toLowerCase().split('==')),
  );
  const version = (row) => / (\d+\.\d+\.\d+) \|/.exec(row)[1];
  const row = (start) => page.split('\n').find((line) => line.startsWith(`| ${start}`));
  for (const [start, expected] of [
    ['[pusher-js]', npm['pusher-js']],
    ['[Laravel Echo]', npm['laravel-echo']],
    ['`@laravel/echo-react`', npm['@laravel/echo-react']],
    ['`@laravel/echo-react`', npm['@laravel/echo-vue']],
    ['[Python]', python.pysher],
    ['Node: `pusher`', npm.pusher],
    ['Python: `pusher`', python.pusher],
  ]) assert.equal(version(row(start)), expected, start);
});

test('the snippet for pusher-js and Laravel Echo connects both', async (stage) => {
  const server = await stage.server();
  const lines = snippet('const options', server)
    .replace('new Pusher(', 'const pusher = new Pusher(')
    .replace('new Echo({', 'const echo = new Echo({ Pusher,');
  const { pusher, echo } = new Function('Pusher', 'Echo', `${lines}\nreturn { pusher, echo };`)(PusherJs, Echo);
  stage.closing({ close: () => { pusher.disconnect(); echo.disconnect(); } });

  await Promise.all([pusher, echo.connector.pusher].map((client) => inState(client, 'connected')));
});

test('the snippet for the SDK for Node publishes', async (stage) => {
  const server = await stage.server();
  const sdk = new Function('Pusher', `return ${snippet('new Pusher({ appId', server)}`)(Sdk);

  assert.equal((await sdk.trigger('news', 'headline', 'Hello')).status, 200);
});
