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

/** The file that nginx, Apache and HAProxy write their process id to, in their directory, once they have bound their ports. */
export const PID = 'proxy.pid';

/** Apache kills workers that do not end after ten seconds. */
const END_MS = 15_000;

/** Running proxies, which end with this process. SIGKILL would leave their workers running. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGTERM')));

export const IS_ROOT = process.getuid() === 0;

export class Proxy {
  #program;
  #configure;
  #children = [];
  #output = '';

  constructor(program, configure) {
    this.#program = program;
    this.#configure = configure;
  }

  /**
   * Starts a program in front of `servers` and waits until it answers.
   *
   * `program` is `{ binary, package, endSignal, reload, isUp, cleanUp }`; `reload(proxy)` has the running proxy read its files
   * again, `isUp(proxy)` returns whether it has bound its ports, and `cleanUp(proxy)` runs when it has ended. `configure(proxy, servers)` returns the arguments and the files,
   * `{ name: text }`, from the `folder`, `port`, `tlsPort` and `certificate` of the proxy.
   */
  static async start(program, servers, configure) {
    if (!existsSync(program.binary)) throw new Error(`there is no ${program.binary}: install ${program.package}`);
    for (let attempt = 1; ; attempt += 1) {
      const proxy = new Proxy(program, configure);
      try {
        await proxy.#start([servers].flat());
        return proxy;
      } catch (error) {
        await proxy.close();
        if (attempt === ATTEMPTS || !TAKEN.test(error.message)) throw error;
      }
    }
  }

  /** The output of the proxy, which is shown if a test fails. */
  get log() {
    const file = join(this.folder, 'error.log');
    return this.#output + (existsSync(file) ? readFileSync(file, 'utf8') : '');
  }

  /** Puts the running proxy in front of other servers, by its configuration. */
  async reload(servers) {
    await this.#write([servers].flat());
    await this.#program.reload(this);
  }

  signal(name) {
    this.#children.at(-1).process.kill(name);
  }

  /** Starts another process that takes over from those that run. */
  succeed(args) {
    return this.#spawn(args);
  }

  async close() {
    for (const { process: child } of this.#children) {
      if (child.pid && child.exitCode === null) child.kill(this.#program.endSignal);
    }
    await within(Promise.all(this.#children.map(({ exited }) => exited)), 'the end of the proxy', END_MS);
    if (this.#children.length > 0) this.#program.cleanUp?.(this);
    await rm(this.folder, { recursive: true, force: true });
  }

  async #start(servers) {
    this.folder = await mkdtemp(join(tmpdir(), 'campanile-proxies-'));
    // The workers of a proxy that root starts run as another user.
    await chmod(this.folder, 0o755);
    [this.port, this.tlsPort] = await freePorts(2);
    this.certificate = await makeCertificate(this.folder);
    const { exited } = this.#spawn(await this.#write(servers));
    const early = exited.then((code) => {
      throw new Error(`${this.#program.binary} ended with ${code} before it answered:\n${this.log}`);
    });
    early.catch(() => {});
    // Before the proxy has bound its ports, another process that has taken one may answer.
    const isUp = this.#program.isUp ?? (({ folder }) => existsSync(join(folder, PID)));
    const answers = async () => (isUp(this) ? ask(this, '/').catch(() => undefined) : undefined);
    await Promise.race([early, until(`${this.#program.binary} that answers`, answers)]);
  }

  /** Writes the configuration, and returns the arguments. */
  async #write(servers) {
    const { args, files } = this.#configure(this, servers);
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(this.folder, name)), { recursive: true });
      await writeFile(join(this.folder, name), text);
    }
    return args;
  }

  #spawn(args) {
    // Caddy saves its state below HOME.
    const env = { PATH: process.env.PATH, HOME: this.folder };
    const child = spawn(this.#program.binary, args, { cwd: this.folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.#output += text; });
    }
    const exited = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code;
    });
    this.#children.push({ process: child, exited });
    return { exited };
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
