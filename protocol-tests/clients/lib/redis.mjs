// A Redis for one test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { until, within } from './waiting.mjs';

const BINARY = process.env.REDIS_BIN ?? '/usr/bin/redis-server';

/** Starts `redis-server` on a free port of 127.0.0.1, without files. */
export async function startRedis() {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port } = holder.address();
  holder.close();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const child = spawn(BINARY, args, { cwd: '/', stdio: 'ignore' });
  const exited = once(child, 'exit');
  process.on('exit', () => child.kill('SIGKILL'));
  await until('a Redis that listens', () => answers(port));
  return {
    url: `redis://127.0.0.1:${port}`,
    close: async () => { child.kill('SIGTERM'); await within(exited, 'the end of Redis'); },
  };
}

function answers(port) {
  const socket = connect(port, '127.0.0.1');
  const answered = new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  });
  return answered.finally(() => socket.destroy());
}
