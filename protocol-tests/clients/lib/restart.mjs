// Restarts a server with twenty real clients: measures the time until all have reconnected, and their connections.

import assert from 'node:assert/strict';

import { Activated } from './activated.mjs';
import { openSdk } from './clients.mjs';
import { serve } from './pages.mjs';
import { startRedis } from './redis.mjs';
import { APP, Server } from './server.mjs';
import { until } from './waiting.mjs';

const CLIENTS = 20;
const PAGES = 2;
const CHANNEL = 'restart';

/** Maximum time until all clients have reconnected, in ms. */
const BACK_MS = 2_500;
/** Maximum number of connections of a client until it has reconnected. */
const ATTEMPTS_MAX = 3;

const SETTINGS = { app: { subscription_count: true } };

/**
 * The ways to restart. Each returns the servers that clients connect to, and `restart`, which resolves with the exit code of
 * the old process once it has ended and the new one listens. `prepare` runs before the signal.
 */
export const MODES = {
  /** The next process is started at the same time as the signal is sent. */
  async plain(stage) {
    return replaced(stage, SETTINGS, async (old) => {
      old.signal('SIGTERM');
      const [code] = await Promise.all([old.exited(), stage.server(SETTINGS, old.port)]);
      return code;
    });
  },

  /** The next process listens before the old one gets the signal. */
  async 'reuse_port'(stage) {
    const settings = { ...SETTINGS, server: { reuse_port: true, shutdown_grace_s: 2 } };
    const server = await replaced(stage, settings, (old) => old.stop());
    return { ...server, prepare: (old) => stage.server(settings, old.port) };
  },

  /** A launcher holds the socket, and starts the next process when the old one has ended. */
  async 'LISTEN_FDS'(stage) {
    const server = stage.closing(await Activated.start(SETTINGS));
    return { upstreams: [server], restart: () => server.restart(), log: () => server.log };
  },

  /** One of two nodes is restarted as with `plain`. Clients connect through a proxy for both. */
  async cluster(stage) {
    const redis = stage.closing(await startRedis());
    const settings = { ...SETTINGS, redis: { url: redis.url } };
    const old = await stage.server(settings);
    const other = await stage.server(settings);
    for (const node of [old, other]) {
      await until('a node that is ready', async () => (await fetch(`${node.url}/ready`)).ok);
    }
    const restart = async () => {
      old.signal('SIGTERM');
      const [code] = await Promise.all([old.exited(), stage.server(settings, old.port)]);
      return code;
    };
    return { upstreams: [old, other], restart };
  },
};

async function replaced(stage, settings, restart) {
  const old = await stage.server(settings);
  return { upstreams: [old], restart: () => restart(old), old };
}

/** Starts twenty pusher-js clients in this process. */
export async function inNode(stage, port) {
  const clients = Array.from({ length: CLIENTS }, () => watched(stage.pusher({ port })));
  return { states: async () => clients.map((client) => client.state()) };
}

/**
 * Starts twenty pusher-js clients in two pages of a browser. Each page has a separate process: beyond sixteen pending WebSockets
 * of one process, Chromium itself delays each by one to five seconds.
 */
export function inBrowser(browser) {
  return async (stage, port) => {
    const script = `
      const watched = ${watched};
      const options = { cluster: '', wsHost: '127.0.0.1', wsPort: ${port}, forceTLS: false, enabledTransports: ['ws'] };
      const CHANNEL = '${CHANNEL}';
      window.clients = Array.from({ length: ${CLIENTS / PAGES} }, () => watched(new Pusher('${APP.key}', options)));`;
    const html = `<!doctype html><script src="/pusher.js"></script><script>${script}</script>`;
    const site = stage.closing(await serve(html));
    const pages = await Promise.all(Array.from({ length: PAGES }, async () => {
      const context = stage.closing(await browser.newContext());
      const page = await context.newPage();
      await page.goto(site.url);
      return page;
    }));
    const statesOf = (page) => page.evaluate(() => window.clients.map((client) => client.state()));
    return { states: async () => (await Promise.all(pages.map(statesOf))).flat() };
  };
}

/** Records the state of a client. Runs in pages as well. */
function watched(pusher) {
  const state = { socketId: undefined, at: 0, attempts: 0 };
  const inform = pusher.timeline.info.bind(pusher.timeline);
  pusher.timeline.info = (event) => {
    if (event.cid && event.state === 'connecting') state.attempts += 1;
    inform(event);
  };
  const channel = pusher.subscribe(CHANNEL);
  channel.bind('pusher:subscription_succeeded', () => {
    state.socketId = pusher.connection.socket_id;
    state.at = Date.now();
  });
  const isSubscribed = () => channel.subscribed && pusher.connection.state === 'connected';
  return { state: () => ({ ...state, isSubscribed: isSubscribed() }) };
}

/** Restarts a server with connected clients, and returns `{ ms, attempts, moved }`. */
export async function measure(stage, mode, clientsAt, proxy) {
  const server = await MODES[mode](stage);
  const entrance = proxy ? stage.closing(await proxy(server.upstreams)) : server.upstreams[0];
  const clients = await clientsAt(stage, entrance.port);
  const all = (states) => states.every((state) => state.isSubscribed);
  await until('clients that are subscribed', async () => all(await clients.states()));
  if (server.prepare) await server.prepare(server.old);
  const before = await clients.states();
  const start = Date.now();
  const code = await server.restart();
  const after = await until('clients that are back', async () => {
    const states = await clients.states();
    return all(states) && (await counted(entrance)) === CLIENTS && states;
  }, 30_000);
  assert.equal(code, 0, 'the exit code of the old process');
  const moved = after.filter((state, at) => state.socketId !== before[at].socketId);
  assert.ok(moved.length > 0, 'nobody was on the old process');
  return {
    ms: Math.max(...moved.map((state) => state.at)) - start,
    attempts: Math.max(...after.map((state, at) => state.attempts - before[at].attempts)),
    moved: moved.length,
  };
}

/** Like `measure`, but fails if a limit is exceeded. */
export async function assertRestart(...args) {
  const { ms, attempts } = await measure(...args);
  assert.ok(ms <= BACK_MS, `all clients were back after ${ms} ms`);
  assert.ok(attempts <= ATTEMPTS_MAX, `a client connected ${attempts} times`);
}

/** The number of clients on the channel, according to the server. */
async function counted({ port }) {
  const path = `/channels/${CHANNEL}`;
  try {
    const response = await openSdk({ port }).get({ path, params: { info: 'subscription_count' } });
    return (await response.json()).subscription_count;
  } catch {
    return undefined;
  }
}
