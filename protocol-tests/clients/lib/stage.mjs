// One test with everything it starts: whatever it opens here is closed at its end, and if it fails,
// what its servers said is shown.

import assert from 'node:assert/strict';
import nodeTest from 'node:test';

import { startBackend } from './backend.mjs';
import { inState, openEcho, openPusher, openSdk } from './clients.mjs';
import { startRelay } from './relay.mjs';
import { Server } from './server.mjs';

/** A test whose name is the promise it checks. */
export function test(promise, body) {
  nodeTest(promise, { timeout: 50_000 }, async () => {
    const stage = new Stage();
    try {
      await body(stage);
    } catch (error) {
      stage.tell();
      await stage.clear().catch(() => {});
      throw error;
    }
    await stage.clear().catch((error) => {
      stage.tell();
      throw error;
    });
  });
}

export class Stage {
  #servers = [];
  #clients = [];
  #others = [];

  async server(settings, port) {
    return this.#keep(await Server.start(settings, port));
  }

  /** A server without a configuration file, in a folder with only these files. */
  async serverAmong(files) {
    return this.#keep(await Server.startAmong(files));
  }

  /** A script of `/bin/sh` in place of a server. */
  async script(text) {
    return this.#keep(await Server.startScript(text));
  }

  /** A server, its SDK and its application server: what most tests begin with. */
  async set(settings, policies) {
    const server = await this.server(settings);
    const sdk = openSdk(server);
    const backend = await this.backend(sdk, policies);
    return { server, sdk, backend };
  }

  async backend(sdk, policies) {
    return this.closing(await startBackend(sdk, policies));
  }

  pusher(server, options) {
    return this.#client(openPusher(server, options));
  }

  echo(server, options) {
    return this.#client(openEcho(server, options));
  }

  /** A relay before a server: see `startRelay`. */
  async relay(server) {
    return this.closing(await startRelay(server));
  }

  /**
   * Lets the time pass after which a client tries again to connect.
   *
   * No clock is asked: another client is cut off, and has come back.
   */
  async retryTimePasses(server) {
    const wire = await this.relay(server);
    const client = this.pusher(wire);
    await inState(client, 'connected');
    await wire.attempts.next();
    wire.cut();
    await wire.attempts.next();
  }

  /** Anything else that is to be closed at the end. */
  closing(thing) {
    this.#others.push(thing);
    return thing;
  }

  tell() {
    for (const server of this.#servers) console.error(`--- the server on ${server.port} said\n${server.log}---`);
  }

  /**
   * Closes everything, clients first. Fails if a server ended before it was told to, had to be killed, ended with
   * another exit code than 0, or panicked, even if it recovered.
   */
  async clear() {
    for (const client of this.#clients) client.disconnect();
    const closed = await Promise.allSettled(this.#others.map((thing) => thing.close()));
    const faults = await Promise.all(this.#servers.map((server) => server.fault()));
    await Promise.all(this.#servers.map((server) => server.removeFolder()));
    for (const { reason } of closed) if (reason) throw reason;
    assert.deepEqual(faults, faults.map(() => undefined), 'what was wrong with the servers');
  }

  #keep(server) {
    this.#servers.push(server);
    return server;
  }

  #client(client) {
    this.#clients.push(client);
    return client;
  }
}
