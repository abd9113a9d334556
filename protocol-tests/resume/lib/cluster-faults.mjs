// What happens to the clients of a cluster, and what they may notice. The rows are those of docs/resume.md.

import { setTimeout as delay } from 'node:timers/promises';

import { until, within } from '../../clients/lib/waiting.mjs';
import { runCluster } from './cluster-run.mjs';

const WHOLE = 'whole';
const OR_GAP = 'whole, or a gap notice';
/** Options of clients that do not notice a dead line themselves, and wait for the server as long as usual. */
const PATIENT = { activityTimeout: 120_000, pongTimeout: 60_000 };
/** Bytes that a slow client is sent at once. */
const BURST_BYTES = 128 * 1024;
/** How long the load balancer is away: less than the second after which clients return. */
const RESTART_MS = 300;

/**
 * All faults. `act({ cluster, channels, clients, lost })` resolves when the clients are on their way back. `stock` and `helped` say what the
 * clients without and with campanile-resume receive.
 */
export const CLUSTER_FAULTS = {
  'lines are reset': {
    act: cut(['reset', 'resetAtAcknowledgement', 'resetAtReturn', 'resetAtFirstAnswer']), isMoved: true, stock: WHOLE, helped: WHOLE,
  },

  'lines are black holes, and their nodes think that they live': {
    act: cut(['healedBlackHole', 'blackHole', 'lateReturn', 'lateSignature']), isMoved: true, stock: WHOLE, helped: WHOLE,
  },

  'lines are frozen in one direction': { act: cut(['frozenUp', 'frozenDown']), isMoved: true, stock: WHOLE, helped: WHOLE },

  /** Nothing passes until the server gives up; the clients notice when they are thawed. */
  'clients are frozen until their nodes close the connections': {
    settings: { connection: { activity_timeout_s: 1, pong_timeout_s: 3 } },
    options: PATIENT,
    pings: 2,
    async act({ clients }) {
      await returned(clients, 'the thaw', async ({ proxy }) => {
        const lines = proxy.lines;
        const heal = proxy.blackHole();
        await until('a close that does not arrive', () => lines.every(({ isClosed }) => isClosed));
        heal();
      });
    },
    isMoved: true, stock: WHOLE, helped: WHOLE,
  },

  'clients are too slow and closed with 4100': {
    settings: { app: { max_event_bytes: 10_240 }, connection: { max_outbox_bytes: 65_536 } },
    options: PATIENT,
    // The buffers of each have to be filled.
    clients: { libraries: [{ pusher: 8 }, { pusher: 8, echo: 2 }], helpers: [{ pusher: 8 }], pages: [] },
    async act({ cluster, channels, clients }) {
      await returned(clients, 'the close with 4100', ({ proxy }) => proxy.lines.forEach((line) => line.stall()), async () => {
        await until('closed connections', async () => {
          await channels.burst(BURST_BYTES);
          return clients.length <= await cluster.sum('campanile_connections_ended_total', 'slow_consumer');
        }, 30_000);
        for (const { proxy } of clients) proxy.lines.forEach((line) => line.flow());
      });
    },
    isMoved: true, stock: OR_GAP, helped: OR_GAP,
  },

  'users are asked to reconnect with 4200': {
    async act({ channels, clients }) {
      await Promise.all(clients.map((client) => client.signIn()));
      await returned(clients, 'the close with 4200', ({ user }) => channels.sdk.forceReconnect(user));
    },
    isMoved: true, stock: WHOLE, helped: WHOLE,
  },

  'a node drains': {
    async act({ cluster, clients }) {
      const node = await gather(cluster, clients);
      await returned(clients, 'the drain', () => {}, async () => {
        const code = await cluster.restart(node, 'stop');
        if (code !== 0) throw new Error(`the node ended with ${code}`);
      });
    },
    isMoved: true, stock: WHOLE, helped: WHOLE,
  },

  'a node is killed': {
    settings: { redis: { node_timeout_ms: 4_000 } },
    async act({ cluster, clients, lost }) {
      const node = await gather(cluster, [...clients, lost]);
      // Its removal shows that the dead node was cleaned up.
      lost.proxy.refuses = true;
      await returned(clients, 'the kill', () => {}, () => cluster.restart(node, 'kill'));
    },
    isMoved: true, stock: OR_GAP, helped: WHOLE,
  },

  'lines are reset after Redis has restarted with its data': {
    persistent: true,
    async act({ cluster, channels, clients }) {
      await cluster.restartRedis();
      await within(channels.publishesMore(20), 'events after the restart of Redis', 20_000);
      await returned(clients, 'the reset', ({ proxy }) => proxy.reset());
    },
    stock: WHOLE, helped: WHOLE,
  },

  'lines are reset while Redis restarts with its data': {
    persistent: true,
    act: restartRedis, changesIds: true, stock: OR_GAP, helped: OR_GAP,
  },

  /** A return waits for the records that other nodes write again: longer than clients with short timeouts wait for a pong. */
  'Redis restarts empty': {
    options: PATIENT,
    act: restartRedis, isLossy: true, changesIds: true, stock: OR_GAP, helped: OR_GAP,
  },

  'the load balancer restarts': {
    async act({ clients }) {
      await returned(clients, 'the restart', ({ proxy }) => {
        proxy.refuses = true;
        proxy.reset();
      }, async () => {
        await delay(RESTART_MS);
        for (const { proxy } of clients) proxy.refuses = false;
      });
    },
    isMoved: true, stock: WHOLE, helped: WHOLE,
  },
};

/** What clients notice of `runRollingRestart`. */
export const ROLLING_RESTART = { isMoved: true, stock: WHOLE, helped: WHOLE };

/** Cuts all lines twice, in the given ways. */
function cut(names) {
  return async ({ clients }) => {
    await Promise.all(clients.map((client) => client.suffer(2, names)));
  };
}

/** Starts `act(client)` for all clients, then `also()`, and waits until all have returned. */
async function returned(clients, when, act, also = () => {}) {
  await Promise.all(clients.map((client) => client.canBeCut()));
  const marks = await Promise.all(clients.map(async (client) => (await client.log()).length));
  await Promise.all(clients.map(act));
  await also();
  await Promise.all(clients.map((client, at) => client.isSubscribed(marks[at], `after ${when}`)));
}

/** Brings all clients to one node by a cut, and lets them go anywhere afterwards. Returns the node. */
async function gather(cluster, clients) {
  const node = cluster.nodes.find(({ isHidden }) => !isHidden);
  await returned(clients, 'the move to one node', ({ entrance, proxy }) => {
    entrance.only = node;
    proxy.reset();
  });
  for (const { entrance } of clients) entrance.only = undefined;
  return node;
}

/** Restarts Redis under the clients, and once more while their lines are cut. */
async function restartRedis({ cluster, channels, clients }) {
  await cluster.restartRedis();
  await within(channels.publishesMore(20), 'events after the restart of Redis', 20_000);
  await returned(clients, 'the restart of Redis', () => {}, async () => {
    await cluster.redis.kill();
    clients.forEach(({ proxy }) => proxy.reset());
    await cluster.redis.start();
  });
  await cluster.areReady();
}

/** Runs one fault. Returns the results of `runCluster`, with the moves of each client between nodes. */
export async function runFault(fault, cluster, given = {}) {
  cluster.repeats = !fault.isLossy;
  return runCluster(cluster, (run) => fault.act({ cluster, ...run }), { options: fault.options ?? {}, pings: fault.pings ?? 1, ...given, ...fault.clients });
}

/** What is not as the fault's row says, as lines of text. */
export function judgeFault(fault, { stock, helped, changes }) {
  return [
    ...stock.flatMap((result) => judge(result, fault, fault.stock)),
    ...helped.flatMap((result) => judge(result, fault, fault.helped, 'with campanile-resume')),
    ...changes.map((change) => `presence: ${change}`),
  ];
}

function judge({ name, cuts, violations, socketIds, gaps, repeated, moves }, { isMoved, changesIds }, expected, helper) {
  const wrong = [...violations.slice(0, 3)];
  // A node that cannot ask Redis at the handshake gives another id.
  if (socketIds > 1 && !changesIds) wrong.push(`${socketIds} socket ids`);
  if (expected === WHOLE && gaps > 0) wrong.push(`${gaps} gap notices`);
  if (helper && repeated > 0) wrong.push(`${repeated} events twice`);
  if (isMoved && moves === 0) wrong.push('it never came to another node');
  return wrong.map((text) => `${[name, helper, cuts.join(', ')].filter(Boolean).join(', ')}: ${text}`);
}

/** All nodes are restarted, one after the other, and the clients remember their authorizations. Returns the result and its figures. */
export async function runRollingRestart(cluster, given = {}) {
  const act = async ({ clients }) => {
    for (const node of cluster.nodes) await restartUnder(cluster, node, clients);
  };
  const start = Date.now();
  const run = await runCluster(cluster, act, { caches: true, ...given });
  const results = [...run.stock, ...run.helped];
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  return {
    run,
    figures: {
      seconds: Math.round((Date.now() - start) / 1_000),
      nodes: cluster.nodes.length,
      clients: results.length,
      published: run.published,
      retriedPublishes: run.retried,
      delivered: sum('received'),
      reconnections: sum('connections') - results.length,
      missing: sum('missed'),
      gaps: sum('gaps'),
      twice: sum('repeated'),
      presenceChanges: run.changes.length,
      authorizations: sum('signatures'),
    },
  };
}

/** Restarts a node, and waits until the clients are subscribed again and the other nodes have some of them. */
async function restartUnder(cluster, node, clients) {
  const code = await cluster.restart(node, 'stop');
  if (code !== 0) throw new Error(`the node ended with ${code}`);
  await Promise.all(clients.map((client) => client.isSubscribed(0, 'after the restart of a node')));
}
