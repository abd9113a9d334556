// The resources of one test: everything that is opened here is closed at its end, and if the test
// fails, the output of its servers is shown.

import assert from 'node:assert/strict';
import nodeTest from 'node:test';

import { startBackend } from './backend.mjs';
import { inState, openEcho, openPusher, openSdk } from './clients.mjs';
import { startRelay } from './relay.mjs';
import { Server } from './server.mjs';

/** Defines a test, whose name is the guarantee that it checks. */
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

  /** Starts a server without a configuration file, in a directory with only these files. */
  async serverAmong(files) {
    return this.#keep(await Server.startAmong(files));
  }

  /** Starts a server by a command of a user: `{ folder, env }`. */
  async command(command, where) {
    return this.#keep(await Server.startCommand(command, where));
  }

  /** Runs a script of `/bin/sh` in place of a server. */
  async script(text) {
    return this.#keep(await Server.startScript(text));
  }

  /** Starts a server, its SDK and its application server: the setup of most tests. */
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

  /** Starts a relay in front of a server: see `startRelay`. */
  async relay(server) {
    return this.closing(await startRelay(server));
  }

  /**
   * Waits for the time after which a client retries to connect.
   *
   * The time is not measured: another client is disconnected, and has reconnected.
   */
  async retryTimePasses(server) {
    const wire = await this.relay(server);
    const client = this.pusher(wire);
    await inState(client, 'connected');
    await wire.attempts.next();
    wire.cut();
    await wire.attempts.next();
  }

  /** Registers any other object to close at the end. */
  closing(thing) {
    this.#others.push(thing);
    return thing;
  }

  tell() {
    for (const server of this.#servers) console.error(`--- output of the server on ${server.port}\n${server.log}---`);
  }

  /**
   * Closes everything, clients first. Fails if a server ended before it was stopped, had to be killed, ended with
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
