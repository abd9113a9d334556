// The examples in docs/http-api.md, run by a shell as they are written.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import { subscribed } from './lib/clients.mjs';
import { APP } from './lib/server.mjs';
import { test } from './lib/stage.mjs';

const page = readFileSync(new URL('../../docs/http-api.md', import.meta.url), 'utf8');
const [, variables, functions] = /^```sh\n(url=.*)\n([^]*?)^```$/m.exec(page) ?? [];
const examples = Array.from(page.matchAll(/^```sh\n(api .*)\n```\n\n```json\n(.*)\n```$/gm));

/** What differs between machines, servers and runs: of these, the type is compared. */
const VARYING = ['interval_ms', 'node', 'uptime_s', 'time', 'path', 'host', 'max_connections', 'max_descriptors'];
const parsed = (body) => JSON.parse(body, (name, value) => (VARYING.includes(name) ? typeof value : value));

test('each request of the page about the HTTP API gets the documented response', async (stage) => {
  const { server, backend } = await stage.set();
  const windows = ['ann', 'bob', 'bob'].map((user) => stage.pusher(server, { backend, user }));
  await Promise.all(windows.map((window) => subscribed(window.subscribe('presence-room'))));
  await subscribed(stage.pusher(server).subscribe('news'));
  assert.equal(variables, 'url=http://127.0.0.1:8080 app=app-id key=app-key secret=app-secret');
  const ours = `url=${server.url} app=${APP.id} key=${APP.key} secret=${APP.secret}`;

  assert.equal(examples.length, page.match(/^api /gm).length, 'each example has an answer');
  assert.ok(examples.length > 10);
  for (const [, call, answer] of examples) {
    const { stdout } = await promisify(execFile)('sh', ['-ec', `${ours}\n${functions}\n${call}`]);
    assert.deepEqual(parsed(stdout), parsed(answer), call);
  }
});
