// The application of a cluster: it publishes through every node, and repeats a publish that was not answered, with the same key.

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import { openSdk } from '../../clients/lib/clients.mjs';

/** How long a publish is repeated, and the pause between two attempts. */
const REPEAT_MS = 30_000;
const PAUSE_MS = 50;

/** The part of the SDK that the tests use. */
export class ClusterSdk {
  #cluster;
  #sdks;
  #turn = 0;
  /** Attempts that were not answered with 200. */
  retried = 0;

  constructor(cluster, options) {
    this.#cluster = cluster;
    this.#sdks = new Map(cluster.nodes.map((node) => [node, openSdk(node, options)]));
    const [first] = this.#sdks.values();
    this.authorizeChannel = first.authorizeChannel.bind(first);
    this.authenticateUser = first.authenticateUser.bind(first);
  }

  /**
   * Publishes one event. Resolves with `{ isUnknown: true }` if no node has answered whether it was published, and the cluster does not repeat.
   */
  async trigger(channel, name, data, params) {
    const key = randomUUID();
    const end = Date.now() + REPEAT_MS;
    for (;;) {
      // The batch is where the SDK for Node leaves the key alone. It changes the event.
      const batch = [{ channel, name, data, idempotency_key: key, ...params }];
      const error = await this.#next().triggerBatch(batch).then(() => undefined, (failure) => failure);
      if (!error) return {};
      if (!isTemporary(error) || end < Date.now()) throw error;
      if (!this.#cluster.repeats && !isRejected(error)) return { isUnknown: true };
      this.retried += 1;
      await delay(PAUSE_MS);
    }
  }

  /** Makes the clients of a user reconnect. */
  async forceReconnect(user) {
    await this.#next().post({ path: `/users/${user}/force_reconnect`, body: {} });
  }

  /** The nodes in turn; those that the load balancer knows not to be ready are passed over. */
  #next() {
    const { nodes } = this.#cluster;
    const inTurn = nodes.map((_, at) => nodes[(this.#turn + at) % nodes.length]);
    const node = inTurn.find(({ isReady }) => isReady) ?? inTurn[0];
    this.#turn = nodes.indexOf(node) + 1;
    return this.#sdks.get(node);
  }
}

/** Whether a repeated attempt may succeed: there was no answer, or the node cannot publish now. */
function isTemporary({ status }) {
  return status === undefined || status === 503;
}

/** Whether the event was certainly not published. */
function isRejected({ status, body, error }) {
  if (status === undefined) return error?.code === 'ECONNREFUSED';
  return JSON.parse(body).code === 503;
}
