// A real Campanile: started with a separate configuration and directory, on a free port,
// and ended by its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { within } from './waiting.mjs';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

/** The server under test. */
export const CAMPANILE_BIN = process.env.CAMPANILE_BIN ?? join(REPOSITORY, 'target/debug/campanile');

/** The app of every configuration; tests add further settings. */
export const APP = { id: 'tests', key: 'tests-key', secret: 'tests-secret' };

/** The timeout of an exit: a server without a configuration has a grace period of ten seconds. */
const END_MS = 15_000;

const LISTENS = /listens on http:\/\/127\.0\.0\.1:(\d+)/;

/** Running servers. If this process ends early, they end with it. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

export class Server {
  #child;
  #exited;
  #folder;
  /** The signal with which a test has ended the server. */
  #told;
  #end;
  #stdout = '';
  #stderr = '';

  /**
   * Starts a server and waits until it accepts connections.
   *
   * `settings.app` is merged into the single app, every other member is a section of the configuration:
   * `{ app: { subscription_count: true }, connection: { activity_timeout_s: 2 } }`.
   */
  static async start(settings = {}, port = 0) {
    return Server.startIn(await folderWith({ 'config.toml': toToml(settings) }), port, ['--config', 'config.toml']);
  }

  /** Starts a script of `/bin/sh` instead, for the tests of the harness. */
  static async startScript(text) {
    return Server.startIn(await folderWith({ script: text }), 0, [], ['/bin/sh', 'script']);
  }

  /** Starts a server without a configuration file, in a directory with only these files; `{ name: text }`. */
  static async startAmong(files) {
    return Server.startIn(await folderWith(files), 0, []);
  }

  static async startIn(folder, port, args, program = [CAMPANILE_BIN]) {
    return Server.startCommand([...program, 'start', ...args, '--host', '127.0.0.1', '--port', String(port)], { folder });
  }

  /** Starts a server by this command in `folder`, with no other variables than `env`. */
  static async startCommand(command, { folder, env }) {
    if (!existsSync(CAMPANILE_BIN)) {
      throw new Error(`there is no server at ${CAMPANILE_BIN}: build it, or set CAMPANILE_BIN`);
    }
    const server = new Server();
    server.#folder = folder;
    server.#spawn(command, env);
    server.port = await server.#listening();
    return server;
  }

  /** The origin of its HTTP API. */
  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The text that the server printed on standard output. */
  get banner() {
    return this.#stdout;
  }

  /** The complete output, which is shown if a test fails. */
  get log() {
    return `${this.#stdout}${this.#stderr}`;
  }

  /** Sends the process a signal. */
  signal(name) {
    if (!this.ended && ['SIGTERM', 'SIGINT', 'SIGKILL'].includes(name)) this.#told = name;
    this.#child.kill(name);
  }

  /** Stops the server with SIGTERM, and resolves with its exit code. */
  async stop() {
    this.signal('SIGTERM');
    return this.exited();
  }

  /** Kills the server with SIGKILL. */
  async kill() {
    this.signal('SIGKILL');
    return this.exited();
  }

  /** Resolves with the exit code when the server has ended. */
  exited() {
    return within(this.#exited, 'the end of the server', END_MS);
  }

  /** Whether the server has ended. */
  get ended() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Stops a running server. Resolves with a description of its fault, or with nothing. */
  async fault() {
    if (!this.ended) this.signal('SIGTERM');
    try {
      await this.exited();
    } catch (error) {
      this.#child.kill('SIGKILL');
      return error.message;
    }
    if (hasPanicked(this.#stderr)) return 'it panicked';
    const { code, signal } = this.#end;
    const how = signal ?? `exit code ${code}`;
    if (!this.#told) return `it ended by itself: ${how}`;
    if (this.#told === 'SIGKILL') return undefined;
    return code === 0 ? undefined : `it ended with ${how}`;
  }

  async removeFolder() {
    await rm(this.#folder, { recursive: true, force: true });
  }

  // The developer's environment must not affect the configuration.
  #spawn([program, ...args], env = { PATH: process.env.PATH, HOME: this.#folder }) {
    const options = { cwd: this.#folder, env: { ...env, RUST_BACKTRACE: '1' }, stdio: ['ignore', 'pipe', 'pipe'] };
    const child = spawn(program, args, options);
    running.add(child);
    child.stdout.setEncoding('utf8').on('data', (text) => { this.#stdout += text; });
    child.stderr.setEncoding('utf8').on('data', (text) => { this.#stderr += text; });
    // The streams are closed, so all output has been read.
    this.#exited = once(child, 'close').then(([code, signal]) => {
      running.delete(child);
      this.#end = { code, signal };
      return code;
    });
    this.#child = child;
  }

  async #listening() {
    const port = new Promise((resolve) => {
      const look = () => LISTENS.test(this.#stdout) && resolve(Number(LISTENS.exec(this.#stdout)[1]));
      this.#child.stdout.on('data', look);
    });
    const early = this.#exited.then((code) => {
      throw new Error(`the server ended with ${code} before it listened:\n${this.log}`);
    });
    early.catch(() => {});
    try {
      return await within(Promise.race([port, early]), 'a server that listens');
    } catch (error) {
      this.#child.kill('SIGKILL');
      await this.removeFolder();
      throw error;
    }
  }
}

/** Whether a server's standard error contains the line that Rust prints for every panic, before it can be caught. */
export function hasPanicked(stderr) {
  return stderr.includes('panicked at');
}

async function folderWith(files) {
  const folder = await mkdtemp(join(tmpdir(), 'campanile-clients-'));
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, name), text)));
  return folder;
}

/**
 * The text of a configuration; see `Server.start`. Strings, numbers, booleans and flat arrays of them are written in TOML as
 * in JSON.
 */
export function toToml({ app, ...given }) {
  const sections = { server: { shutdown_grace_s: 2 }, ...given };
  const lines = (values) => Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const parts = Object.entries(sections).flatMap(([name, values]) => [`[${name}]`, ...lines(values)]);
  return [...parts, '[[apps]]', ...lines({ ...APP, ...app }), ''].join('\n');
}
