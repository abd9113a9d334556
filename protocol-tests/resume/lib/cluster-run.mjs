// Clients of a cluster, while `act` breaks something: stock ones, ones with campanile-resume, and pages of a browser.

import { resume } from '../../../clients/campanile-resume/dist/campanile-resume.mjs';
import { until } from '../../clients/lib/waiting.mjs';
import { LIBRARIES, openClient, resumePath } from './clients.mjs';
import { NodeClient, PageClient } from './cut-client.mjs';
import { startFaults } from './faults.mjs';
import { mergedOrder } from './order.mjs';
import { excludesInTurn } from './publishers.mjs';
import { Channels, hasAll, isSubscribed } from './stage.mjs';

/** Time between two events of a publisher. */
const PAUSE_MS = 25;
const LOST = 'lost';
const REMOVED_MS = 20_000;
const SEEDS_OF_A_RUN = 100;
const DEFAULTS = {
  seed: 0,
  libraries: LIBRARIES,
  helpers: [{ pusher: 7 }, { pusher: 8, echo: 2 }],
  pages: [],
  /** Options of pusher-js. */
  options: {},
  /** Whether the clients remember authorizations, with the cache of campanile-resume. */
  caches: false,
  /** See `check`. */
  pings: 1,
};

/** The channels of a cluster. */
export class ClusterChannels extends Channels {
  /** What the clients received, beside the witness. */
  logs = [];

  /** Connects the witness through the load balancer, to a node for witnesses if there is one. */
  async open() {
    const { server, channels } = this;
    const entrance = server.entrance();
    entrance.only = server.nodes.find(({ isHidden }) => isHidden);
    this.proxy = await startFaults(entrance);
    this.witness = openClient(this.proxy, {
      library: { pusher: 8 }, channels, sign: this.signFor('witness'), options: { activityTimeout: 120_000, wsPath: resumePath() },
    });
    await isSubscribed(() => this.witness.log, channels);
  }

  /** The order of the witness, if it has everything. */
  orderOf(channel) {
    try {
      return super.orderOf(channel);
    } catch {
      return mergedOrder([this.witness.log, ...this.logs], channel, this.published);
    }
  }

  close() {
    super.close();
    this.proxy?.close();
  }
}

/**
 * Runs clients of `libraries`, of `helpers` with campanile-resume, and of `pages` in tabs of `browser`; calls `act({ channels, clients, lost })`,
 * and waits until all are back. Returns `{ stock, helped, changes, published, retried }`: results, the members who came or left
 * meanwhile, the number of events, and that of publishes that were repeated.
 */
export async function runCluster(cluster, act, given) {
  const { browser, seed, libraries, helpers, pages, options, caches, pings } = { ...DEFAULTS, ...given };
  const channels = Object.assign(new ClusterChannels(cluster), { pings });
  let last = seed * SEEDS_OF_A_RUN;
  const make = (Kind) => (library) => new Kind(channels, library, last += 1);
  const [stock, helped, inPages] = [libraries.map(make(NodeClient)), helpers.map(make(NodeClient)), pages.map(make(PageClient))];
  const lost = new LostClient(channels, { pusher: 8 }, 0);
  const clients = [...stock, ...helped, ...inPages];
  try {
    await channels.open();
    const open = (before) => (client) => client.open({ before, options, caches });
    await Promise.all([...[...stock, lost].map(open()), ...helped.map(open(resume)), ...inPages.map((page) => page.open(browser, options, caches))]);
    // Behind the members' arrivals in the order of the channels.
    await channels.publishMany(1);
    await Promise.all([channels.witness, ...clients].map((client) => hasAll(() => logOf(client), channels.published)));
    const changes = await watchPresence([channels.witness, ...clients]);
    clients.forEach((client) => { client.signatures = 0; });
    channels.publish(() => PAUSE_MS, excludesInTurn(stock));
    await act({ channels, clients, lost });
    const results = await judgeAll(channels, clients);
    await lost.lose(channels.witness);
    const isHelped = (_, at) => helped.includes(clients[at]);
    return { stock: results.filter((...entry) => !isHelped(...entry)), helped: results.filter(isHelped), changes: await changes(), published: channels.published.length, retried: channels.sdk.retried };
  } finally {
    await Promise.all([...clients, lost].map((client) => client.close()));
    channels.close();
  }
}

/** Ends publishing, and compares. The order of a channel is known when all clients have the last events. */
async function judgeAll(channels, clients) {
  const last = await channels.end();
  await Promise.all(clients.map((client) => client.arrive(last)));
  channels.logs = await Promise.all(clients.map((client) => client.log()));
  return Promise.all(clients.map(async (client) => {
    const { entrance: { moves }, signatures } = client;
    return { ...await client.judge(last), moves, signatures };
  }));
}

/** The log of the witness, or of another client. */
async function logOf(client) {
  return client.log instanceof Array ? client.log : client.log();
}

/** Returns a function that resolves with the members who come or leave from now on. */
async function watchPresence(clients) {
  const read = () => Promise.all(clients.map(logOf));
  const marks = (await read()).map(({ length }) => length);
  return async () => (await read()).flatMap((log, at) => log.slice(marks[at]).filter(isChange)).map(({ kind, user }) => `${user} ${kind}`);
}

function isChange({ kind, user }) {
  return ['added', 'removed'].includes(kind) && user !== LOST;
}

/** A member who is lost at the end of a run. When it is removed, so is every other one who was lost before. */
class LostClient extends NodeClient {
  user = LOST;

  /** Loses the member for good, unless that has happened, and waits until the witness hears of its removal. */
  async lose({ log }) {
    this.proxy.refuses = true;
    this.proxy.reset();
    await until('the removal of the lost member', () => log.some(({ kind, user }) => kind === 'removed' && user === LOST), REMOVED_MS);
  }
}
