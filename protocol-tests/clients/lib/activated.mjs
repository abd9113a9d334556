// A Campanile that inherits its listening socket, and is restarted by its launcher when it ends.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { CAMPANILE_BIN, hasPanicked, toToml } from './server.mjs';
import { until, within } from './waiting.mjs';

const LAUNCHER = fileURLToPath(new URL('./activate.py', import.meta.url));
const LISTENS = /listens on http:\/\/127\.0\.0\.1:(\d+)/g;

export class Activated {
  #child;
  #folder;
  #exited;
  #output = '';
  #restarts = 0;

  static async start(settings) {
    const server = new Activated();
    server.#folder = await mkdtemp(join(tmpdir(), 'campanile-activated-'));
    await writeFile(join(server.#folder, 'config.toml'), toToml(settings));
    const env = { PATH: process.env.PATH, CAMPANILE_SERVER__HOST: '127.0.0.1' };
    const args = [LAUNCHER, CAMPANILE_BIN, 'start', '--config', 'config.toml'];
    server.#child = spawn('python3', args, { cwd: server.#folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [server.#child.stdout, server.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { server.#output += text; });
    }
    process.on('exit', () => server.#child.kill('SIGTERM'));
    server.#exited = once(server.#child, 'close');
    await until('a server that listens', () => server.starts === 1);
    server.port = Number([...server.#output.matchAll(LISTENS)][0][1]);
    return server;
  }

  /** The number of times that the server has logged that it listens. */
  get starts() {
    return [...this.#output.matchAll(LISTENS)].length;
  }

  get log() {
    return this.#output;
  }

  /** Ends the server with SIGTERM; the launcher starts the next one. Resolves with the exit code of the first. */
  async restart() {
    const pids = [...this.#output.matchAll(/runs as (\d+)/g)];
    this.#restarts += 1;
    process.kill(Number(pids.at(-1)[1]), 'SIGTERM');
    const ended = () => /ended with (-?\d+)/.exec(this.#output);
    await until('the end of the server', ended);
    await until('the next server', () => this.starts === 2);
    return Number(ended()[1]);
  }

  /** Ends everything. Fails if a server ended with another exit code than 0, or panicked. */
  async close() {
    this.#child.kill('SIGTERM');
    await within(this.#exited, 'the end of the launcher');
    await rm(this.#folder, { recursive: true, force: true });
    const codes = [...this.#output.matchAll(/ended with (-?\d+)/g)].map(([, code]) => code);
    assert.deepEqual(codes, Array(this.#restarts + 1).fill('0'), 'exit codes of the servers');
    assert.ok(!hasPanicked(this.#output), this.#output);
  }
}
