// A TCP relay between clients and the server that counts connections, and can be cut and held.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { inbox } from './waiting.mjs';

/** Relays connections to `server`. */
export async function startRelay(server) {
  const { port } = server;
  const sockets = new Set();
  const attempts = inbox('a connection to the relay');
  let released = Promise.resolve();
  const listener = createServer(async (client) => {
    attempts(client.remotePort);
    client.on('error', () => {});
    await released;
    const onward = connect(port, '127.0.0.1');
    for (const [from, to] of [[client, onward], [onward, client]]) {
      sockets.add(from);
      from.on('error', () => {}).on('close', () => { sockets.delete(from); if (!from.readableEnded) to.destroy(); });
      from.pipe(to);
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const cut = () => sockets.forEach((socket) => socket.destroy());
  /** Accepts connections, and passes nothing on until the returned function is called. */
  const hold = () => {
    let release;
    released = new Promise((resolve) => { release = resolve; });
    return release;
  };
  const close = () => { cut(); listener.close(); };
  return { port: listener.address().port, attempts, cut, hold, close };
}
