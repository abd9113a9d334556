// A stretch of wire between a client and the server that counts who comes, can be cut, and can lead elsewhere.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { inbox } from './waiting.mjs';

/** Passes connections on to `server`, until it is told of another. */
export async function startRelay(server) {
  let { port } = server;
  const sockets = new Set();
  const attempts = inbox('a connection to the relay');
  const listener = createServer((client) => {
    attempts(client.remotePort);
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
  const leadTo = (other) => { port = other.port; };
  const close = () => { cut(); listener.close(); };
  return { port: listener.address().port, attempts, cut, leadTo, close };
}
