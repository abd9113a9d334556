// Several nodes behind a proxy that balances.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { openSdk } from '../lib/clients.mjs';
import { until } from '../lib/waiting.mjs';
import { connectRaw } from './lib/plain.mjs';
import { BALANCERS, CHECKERS, behindEach } from './lib/through.mjs';

/** Enough for several workers to be wrong if each balances by itself. */
const CLIENTS = 24;

behindEach('clients are spread evenly over two nodes by all workers of the proxy', async (stage, before) => {
  const nodes = [await stage.server(), await stage.server()];
  const proxy = await before(nodes, { change: 'manyWorkers' });

  for (let count = 0; count < CLIENTS; count += 1) assert.ok(await isConnected(stage, proxy));

  assert.deepEqual(await Promise.all(nodes.map(connectionsOf)), [CLIENTS / 2, CLIENTS / 2]);
}, BALANCERS);

behindEach('a node that is not ready gets no clients', async (stage, before) => {
  const ready = await stage.server();
  // It has fewer connections than the other, so clients are sent to it until the proxy has asked for /ready.
  const proxy = await before([ready, await unready(stage)]);

  await until('ten clients in a row that are connected', async () => {
    for (let count = 0; count < 10; count += 1) if (!(await isConnected(stage, proxy))) return false;
    return true;
  });
}, CHECKERS);

async function isConnected(stage, proxy) {
  const client = await connectRaw(proxy);
  if (!client.events) return false;
  stage.closing(client);
  return (await client.events.next()).event === 'pusher:connection_established';
}

async function connectionsOf(node) {
  return (await (await openSdk(node).get({ path: '/connections' })).json()).connections;
}

/** A node that answers 503 to everything. */
async function unready(stage) {
  const answer = (_, response) => response.writeHead(503).end();
  const node = createServer(answer).on('upgrade', (_, socket) => {
    socket.on('error', () => {}).end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
  node.listen(0, '127.0.0.1');
  await once(node, 'listening');
  stage.closing({ close: () => { node.closeAllConnections(); node.close(); } });
  return { port: node.address().port };
}
