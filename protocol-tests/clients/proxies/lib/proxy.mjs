// A real proxy as a child process: in the foreground, with a separate directory for its configuration, its pid and its
// logs, on free ports, and ended by its process id. The system's services are not touched.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { until, within } from '../../lib/waiting.mjs';
import { makeCertificate } from './certificate.mjs';
import { ask } from './plain.mjs';

/** The number of attempts to start, since another process may take a free port before the proxy does. */
const ATTEMPTS = 3;
const TAKEN = /address already in use/i;

/** The file that a proxy writes its process id to, in its directory. */
export const PID = 'proxy.pid';

/** Apache kills workers that do not end after ten seconds. */
const END_MS = 15_000;

/** Running proxies, which end with this process. SIGKILL would leave their workers running. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGTERM')));

export const IS_ROOT = process.getuid() === 0;

export class Proxy {
  #child;
  #endSignal;
  #exited;
  #folder;
  #output = '';

  constructor(endSignal) {
    this.#endSignal = endSignal;
  }

  /**
   * Starts `binary` and waits until it answers; `endSignal` ends it.
   *
   * `configure` receives `{ folder, port, tlsPort, certificate }` and returns the arguments and the files,
   * `{ name: text }`.
   */
  static async start(binary, endSignal, configure) {
    if (!existsSync(binary)) throw new Error(`there is no ${binary}: install nginx and apache2-bin`);
    for (let attempt = 1; ; attempt += 1) {
      const proxy = new Proxy(endSignal);
      try {
        await proxy.#start(binary, configure);
        return proxy;
      } catch (error) {
        await proxy.close();
        if (attempt === ATTEMPTS || !TAKEN.test(error.message)) throw error;
      }
    }
  }

  /** The output of the proxy, which is shown if a test fails. */
  get log() {
    const file = join(this.#folder, 'error.log');
    return this.#output + (existsSync(file) ? readFileSync(file, 'utf8') : '');
  }

  async close() {
    if (this.#child?.pid && this.#child.exitCode === null) this.#child.kill(this.#endSignal);
    await within(this.#exited ?? Promise.resolve(), 'the end of the proxy', END_MS);
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #start(binary, configure) {
    this.#folder = await mkdtemp(join(tmpdir(), 'campanile-proxies-'));
    // The workers of a proxy that root starts run as another user.
    await chmod(this.#folder, 0o755);
    [this.port, this.tlsPort] = await freePorts(2);
    this.certificate = await makeCertificate(this.#folder);
    const { args, files } = configure({ ...this, folder: this.#folder });
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(this.#folder, name)), { recursive: true });
      await writeFile(join(this.#folder, name), text);
    }
    this.#spawn(binary, args);
    const early = this.#exited.then((code) => {
      throw new Error(`${binary} ended with ${code} before it answered:\n${this.log}`);
    });
    early.catch(() => {});
    // A proxy writes its pid once it has bound its ports. Before, another process that has taken one may answer.
    const answers = async () => (existsSync(join(this.#folder, PID)) ? ask(this, '/').catch(() => undefined) : undefined);
    await Promise.race([early, until(`${binary} that answers`, answers)]);
  }

  #spawn(binary, args) {
    const child = spawn(binary, args, { env: { PATH: process.env.PATH }, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.#output += text; });
    }
    this.#exited = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code;
    });
    this.#child = child;
  }
}

/** Different free ports of 127.0.0.1. */
async function freePorts(count) {
  const holders = await Promise.all(Array.from({ length: count }, async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    return holder;
  }));
  const ports = holders.map((holder) => holder.address().port);
  await Promise.all(holders.map((holder) => new Promise((closed) => { holder.close(closed); })));
  return ports;
}
