// A Redis for one test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { until, within } from './waiting.mjs';

const BINARY = process.env.REDIS_BIN ?? '/usr/bin/redis-server';
/** Ports that the kernel does not assign to outgoing connections: no other process takes the port of a stopped Redis. */
const FIRST_PORT = 10_000;
const PORTS = 22_000;
const TRANSIENT = ['--appendonly', 'no'];
/** Every change is on disk before it is answered. */
const PERSISTENT = ['--appendonly', 'yes', '--appendfsync', 'always'];

/** Starts `redis-server` on a free port of 127.0.0.1. If it is `persistent`, its data survive it. */
export async function startRedis({ persistent = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'campanile-redis-'));
  const redis = new Redis(await freePort(), folder, persistent ? PERSISTENT : TRANSIENT);
  await redis.start();
  return redis;
}

class Redis {
  #port;
  #folder;
  #args;
  #child;
  #exited;

  constructor(port, folder, args) {
    this.#port = port;
    this.#folder = folder;
    this.#args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', ...args];
    process.on('exit', () => this.#child?.kill('SIGKILL'));
  }

  get url() {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** Starts the server, again with its data if it is persistent. */
  async start() {
    this.#child = spawn(BINARY, this.#args, { cwd: this.#folder, stdio: 'ignore' });
    this.#exited = once(this.#child, 'exit');
    await until('a Redis that answers', () => answers(this.#port));
  }

  /** Kills the server, so it can neither write its data nor close connections. */
  async kill() {
    this.#child.kill('SIGKILL');
    await within(this.#exited, 'the end of Redis');
  }

  async close() {
    this.#child.kill('SIGTERM');
    await within(this.#exited, 'the end of Redis');
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Whether the server answers, which it does when it has loaded its data. */
async function answers(port) {
  const socket = connect(port, '127.0.0.1');
  const answered = new Promise((resolve) => {
    socket.once('connect', () => socket.write('PING\r\n')).once('data', (text) => resolve(text.toString().startsWith('+PONG')))
      .once('error', () => resolve(false)).once('close', () => resolve(false));
  });
  return answered.finally(() => socket.destroy());
}

async function freePort() {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS);
    const holder = createServer().listen(port, '127.0.0.1');
    const isFree = await Promise.race([once(holder, 'listening').then(() => true), new Promise((resolve) => { holder.once('error', () => resolve(false)); })]);
    await new Promise((resolve) => { holder.close(resolve); });
    if (isFree) return port;
  }
}
