// Several nodes with one Redis: real processes, which a test kills, drains and starts again.

import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { startRedis } from '../../clients/lib/redis.mjs';
import { until } from '../../clients/lib/waiting.mjs';
import { ClusterSdk } from './cluster-sdk.mjs';

/** Time between two looks at `/ready`, as a load balancer takes them. */
const LOOK_MS = 50;
/** How long the load balancer keeps a connection that no node can take. */
const WAIT_MS = 10_000;
const METRICS_TOKEN = 'tests-metrics';
const READY_MS = 15_000;

export class Cluster {
  #start;
  #settings;
  #isOver = false;
  #turn = 0;
  /** Whether the publishers repeat what was not answered: not if Redis loses the records of their keys. */
  repeats = true;

  /**
   * Starts Redis and the nodes by `start(settings, port)`, and waits until all are ready. The first `hidden` nodes are for witnesses: the
   * load balancer sends no clients there.
   */
  static async start(start, { nodes = 3, hidden = 0, settings = {}, persistent = false } = {}) {
    const cluster = new Cluster();
    cluster.#start = start;
    cluster.redis = await startRedis({ persistent });
    cluster.#settings = {
      ...settings,
      metrics: { token: METRICS_TOKEN },
      redis: { url: cluster.redis.url, ...settings.redis },
    };
    cluster.nodes = await Promise.all(Array.from({ length: nodes }, async (_, at) => new Node(await start(cluster.#settings), at < hidden)));
    await cluster.areReady();
    cluster.#look();
    return cluster;
  }

  /** The port of the first node, for clients whose lines do not go through the load balancer. */
  get port() {
    return this.nodes[0].port;
  }

  /** An SDK that publishes through all nodes in turn. */
  sdk(options) {
    return new ClusterSdk(this, options);
  }

  /** The load balancer as one client sees it: each line goes to another node than the one before, if another one is ready. */
  entrance() {
    const nodes = this.nodes.filter(({ isHidden }) => !isHidden);
    this.#turn += 1;
    return new Entrance(nodes, this.#turn % nodes.length);
  }

  async areReady(nodes = this.nodes) {
    await Promise.all(nodes.map((node) => until(`node ${this.nodes.indexOf(node)} to be ready`, () => node.look(), READY_MS)));
  }

  /** Ends a node as `how` does, `stop` or `kill`, starts it again, and waits until it is ready. Resolves with the exit code. */
  async restart(node, how = 'stop') {
    const { port } = node;
    const code = await node.server[how]();
    node.server = await this.#start(this.#settings, port);
    await this.areReady([node]);
    return code;
  }

  /** Kills Redis and starts it again. */
  async restartRedis() {
    await this.redis.kill();
    await this.redis.start();
    await this.areReady();
  }

  /** The sum of a metric over all nodes; only of the lines that contain `label`. */
  async sum(name, label = '') {
    const headers = { Authorization: `Bearer ${METRICS_TOKEN}` };
    const texts = await Promise.all(this.nodes.map(async ({ port }) => (await fetch(`http://127.0.0.1:${port}/metrics`, { headers })).text()));
    const lines = texts.join('\n').split('\n').filter((line) => line.startsWith(name) && line.includes(label));
    return lines.reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
  }

  /** Ends Redis; who has started the nodes ends them. */
  async close() {
    this.#isOver = true;
    await this.redis.close();
  }

  async #look() {
    while (!this.#isOver) {
      await Promise.all(this.nodes.map((node) => node.look()));
      await delay(LOOK_MS);
    }
  }
}

class Node {
  isReady = false;

  constructor(server, isHidden) {
    Object.assign(this, { server, port: server.port, isHidden });
  }

  /** Asks the node whether it is ready. */
  async look() {
    this.isReady = await fetch(`http://127.0.0.1:${this.port}/ready`, { signal: AbortSignal.timeout(1_000) }).then(({ ok }) => ok, () => false);
    return this.isReady;
  }
}

class Entrance {
  #nodes;
  #first;
  /** The node of the latest line. */
  node;
  /** The node of all lines from now on, if it is set. */
  only;
  /** How many lines went to another node than the one before. */
  moves = 0;

  constructor(nodes, first) {
    this.#nodes = nodes;
    this.#first = first;
  }

  /** Connects to a node. One that does not accept is passed over, and none is waited for. */
  async connect() {
    const end = Date.now() + WAIT_MS;
    while (Date.now() < end) {
      for (const node of this.#candidates()) {
        const socket = await connectTo(node.port);
        if (!socket) continue;
        if (this.node && this.node !== node) this.moves += 1;
        this.node = node;
        return socket;
      }
      await delay(LOOK_MS);
    }
    return undefined;
  }

  /** The nodes that are ready, from the one after the latest on. */
  #candidates() {
    const from = this.node ? this.#nodes.indexOf(this.node) + 1 : this.#first;
    const inTurn = this.#nodes.map((_, at) => this.#nodes[(from + at) % this.#nodes.length]);
    return (this.only ? [this.only] : inTurn).filter(({ isReady }) => isReady);
  }
}

async function connectTo(port) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  try {
    await once(socket, 'connect');
    return socket;
  } catch {
    return undefined;
  }
}
