// A copy of a project that another server has served, in which a page is followed.
//
// Projects and pages have the ports that people use; a copy has free ones in their place.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import Pusher from 'pusher';

import { CAMPANILE_BIN } from '../../lib/server.mjs';
import { stepsOf } from './page.mjs';

const PROJECTS = fileURLToPath(new URL('../projects/', import.meta.url));
const NODE_MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url));
/** The ports of Reverb and Campanile, of soketi and laravel-websockets, and of soketi's metrics. */
const PORTS = ['8080', '6001', '9601'];
/** Ports below those that Linux gives to outgoing connections, so that none of these takes one meanwhile. */
const [FIRST_PORT, LAST_PORT] = [20_000, 32_000];

export class Project {
  #stage;
  #home;
  #ports;
  #server;
  #copied;
  #pages = 0;

  /** Copies a project into a folder that the stage removes. */
  static async open(stage, name) {
    const project = new Project();
    project.#stage = stage;
    project.#home = await mkdtemp(join(tmpdir(), 'campanile-migrate-'));
    stage.closing({ close: () => rm(project.#home, { recursive: true, force: true }) });
    project.#ports = new Map(await Promise.all(PORTS.map(async (port) => [port, String(await freePort())])));
    await mkdir(join(project.#home, 'bin'));
    await symlink(CAMPANILE_BIN, join(project.#home, 'bin/campanile'));
    await cp(join(PROJECTS, name), project.folder, { recursive: true });
    for (const file of await filesIn(project.folder)) {
      await writeFile(file, project.#withFreePorts(await readFile(file, 'utf8')));
    }
    project.#copied = await project.#contents();
    return project;
  }

  get folder() {
    return join(this.#home, 'project');
  }

  /** The running server. */
  get server() {
    assert.ok(this.#server, 'a step starts the server');
    return this.#server;
  }

  /** The free port that a copy has in place of `port`. */
  port(port) {
    return Number(this.#ports.get(String(port)));
  }

  read(file) {
    return readFile(join(this.folder, file), 'utf8');
  }

  /** Follows a section of a page to its end. Resolves with what its commands printed. */
  async follow(page, heading) {
    let printed = '';
    for (const { kind, file, text: written } of await stepsOf(page, heading)) {
      const text = this.#withFreePorts(written);
      if (kind === 'run') {
        for (const line of text.trimEnd().split('\n')) printed += await this.#type(line);
      } else if (kind === 'set') {
        await writeFile(join(this.folder, file), withVariables(await this.read(file), text));
      } else if (kind === 'write') {
        await writeFile(join(this.folder, file), text);
      } else if (kind === 'is') {
        assert.equal(await this.read(file), text, `${file}, as ${page} shows it`);
      } else {
        assert.ok((await this.read(file)).includes(text), `${file} has what ${page} shows:\n${text}`);
      }
    }
    return printed;
  }

  /** Stops the server, as the reader does before the other one is started again. */
  async stop() {
    assert.equal(await this.server.stop(), 0);
  }

  /** Fails unless each file is as it was when the project was copied. */
  async assertUntouched() {
    assert.deepEqual(await this.#contents(), this.#copied);
  }

  /** The variables of `.env`, as Vite and PHP see them. */
  async variables() {
    return variablesOf(await this.read('.env'));
  }

  /** Laravel's broadcasting connection: `config/broadcasting.php`, evaluated by PHP with the variables of `.env`. */
  async connection() {
    const script = `
      $variables = json_decode($argv[2], true);
      function env($name, $default = null) { global $variables; return $variables[$name] ?? $default; }
      $all = require $argv[1];
      echo json_encode($all['connections'][$all['default']]);`;
    const args = ['-r', script, '--', join(this.folder, 'config/broadcasting.php'), JSON.stringify(await this.variables())];
    const { stdout } = await promisify(execFile)('php', args);
    return JSON.parse(stdout);
  }

  /** Pusher's SDK, with the app, host and port of Laravel's connection. */
  async sdk() {
    const { app_id: appId, key, secret, options: { host, port, scheme } } = await this.connection();
    return new Pusher({ appId, key, secret, host, port: String(port), useTLS: scheme === 'https' });
  }

  /**
   * Runs the script of the project's pages, built as Vite does it, and returns its Echo.
   *
   * Pages ask for authorization at a path of their own host. Node has none, so this is told the backend and its user.
   */
  async echo(script, backend, user) {
    const variables = await this.variables();
    const source = (await this.read(script)).replaceAll(/import\.meta\.env\.(\w+)/g, (_, name) => JSON.stringify(variables[name]) ?? 'undefined');
    const built = join(this.#home, `build-${this.#pages += 1}`);
    await mkdir(built);
    await symlink(NODE_MODULES, join(built, 'node_modules'));
    await writeFile(join(built, 'page.mjs'), source);
    globalThis.window = { location: { hostname: '127.0.0.1' } };
    await import(pathToFileURL(join(built, 'page.mjs')));
    const { Echo: echo } = globalThis.window;
    delete globalThis.window;
    this.#stage.closing({ close: () => echo.disconnect() });
    echo.connector.pusher.config.channelAuthorizer = async ({ socketId, channelName }, answer) => {
      const form = new URLSearchParams({ socket_id: socketId, channel_name: channelName });
      const response = await fetch(backend.authEndpoint, { method: 'POST', headers: { 'X-User': user }, body: form });
      const body = await response.json();
      answer(response.ok ? null : new Error(`the backend answered ${response.status}`), response.ok ? body : null);
    };
    return echo;
  }

  async #type(line) {
    const env = { PATH: `${join(this.#home, 'bin')}:${process.env.PATH}`, HOME: this.#home };
    if (line.startsWith('campanile start')) {
      this.#server = await this.#stage.command(line.split(' '), { folder: this.folder, env });
      return '';
    }
    const { stdout, stderr } = await promisify(execFile)('sh', ['-ec', line], { cwd: this.folder, env });
    return stdout + stderr;
  }

  #withFreePorts(text) {
    return text.replaceAll(/\b\d{4}\b/g, (number) => this.#ports.get(number) ?? number);
  }

  async #contents() {
    const files = await filesIn(this.folder);
    return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await readFile(file, 'utf8')])));
  }
}

/** The files in a folder and those below it, sorted. */
async function filesIn(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort();
}

/** A `.env` in which the lines of `added` replace those of the same name; others are added above the `VITE_` lines. */
function withVariables(env, added) {
  let text = env;
  for (const line of added.trimEnd().split('\n')) {
    const name = line.slice(0, line.indexOf('='));
    const present = new RegExp(`^${name}=.*$`, 'm');
    text = present.test(text) ? text.replace(present, () => line) : text.replace(/^(?=VITE_)/m, () => `${line}\n`);
  }
  return text;
}

/** The variables of a `.env`: values may be quoted, and refer to variables above as `${NAME}`, as for Vite and PHP. */
function variablesOf(env) {
  const variables = {};
  for (const [, name, value] of env.matchAll(/^(\w+)=(.*)$/gm)) {
    const plain = value.replace(/^"(.*)"$/, '$1');
    variables[name] = plain.replaceAll(/\$\{(\w+)\}/g, (_, other) => variables[other] ?? '');
  }
  return variables;
}

const given = new Set();

/** A port on which nothing listens, and that was not given before. */
async function freePort() {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    const listener = createServer();
    const isFree = await new Promise((resolve) => {
      listener.once('error', () => resolve(false));
      listener.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree || given.has(port)) continue;
    given.add(port);
    await new Promise((resolve) => { listener.close(resolve); });
    return port;
  }
}
