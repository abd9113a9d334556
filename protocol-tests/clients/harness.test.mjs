// Tests of the harness: which faults of a server must fail a test at its end.

import assert from 'node:assert/strict';
import nodeTest from 'node:test';

import { Stage, test } from './lib/stage.mjs';

const LISTENS = 'echo listens on http://127.0.0.1:1\n';
const ends = (by) => `trap '${by}' TERM; ${LISTENS} while :; do sleep 0.02; done`;
const SERVES = ends('exit 0');

/** The verdict of a stage about a script in place of a server, after `act` has used it. */
async function verdict(script, act = () => {}) {
  const stage = new Stage();
  await act(await stage.script(script));
  return stage.clear().then(() => 'fine', ({ message }) => message);
}

nodeTest('a server that ends when it is told to is fine', async () => {
  assert.equal(await verdict(SERVES), 'fine');
  assert.equal(await verdict(SERVES, (server) => server.stop()), 'fine');
  assert.equal(await verdict(SERVES, (server) => server.kill()), 'fine');
});

nodeTest('a server that crashes or ends by itself fails the test', async () => {
  for (const [end, how] of [['kill -SEGV $$', 'SIGSEGV'], ['exit 0', 'exit code 0'], ['exit 3', 'exit code 3']]) {
    const said = await verdict(`${LISTENS} ${end}`, (server) => server.exited());
    assert.match(said, new RegExp(`it ended by itself: ${how}`));
  }
});

nodeTest('a server that ends by itself is not excused by a signal that came later', async () => {
  const said = await verdict(`${LISTENS} exit 0`, async (server) => {
    await server.exited();
    await server.kill();
  });
  assert.match(said, /it ended by itself: exit code 0/);
});

nodeTest('a server that crashes when it is told to end fails the test', async () => {
  const crashes = ends('kill -SEGV $$');
  assert.match(await verdict(crashes), /it ended with SIGSEGV/);
  assert.match(await verdict(crashes, (server) => server.stop()), /it ended with SIGSEGV/);
  assert.match(await verdict(ends('exit 1')), /it ended with exit code 1/);
});

nodeTest('a panic from which a server recovered fails the test', async () => {
  const said = await verdict(`echo "thread 'shard-0' panicked at src/a.rs:1:2:" >&2; ${SERVES}`);
  assert.match(said, /it panicked/);
});

test('a server of these tests is fine', async (stage) => {
  await stage.server();
});
