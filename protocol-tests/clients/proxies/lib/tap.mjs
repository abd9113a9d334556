// A TCP relay between a proxy and the server that records what the proxy sends, for each connection.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Relays connections to `server`. `sent` contains the text of each connection, `open` is the number of open ones. */
export async function startTap(server) {
  const sent = [];
  const sockets = new Set();
  let open = 0;
  const listener = createServer((proxy) => {
    const number = sent.push('') - 1;
    open += 1;
    proxy.on('close', () => { open -= 1; });
    const onward = connect(server.port, '127.0.0.1');
    for (const [from, to] of [[proxy, onward], [onward, proxy]]) {
      sockets.add(from);
      from.on('error', () => {}).on('close', () => { sockets.delete(from); to.destroy(); });
      from.pipe(to);
    }
    proxy.on('data', (bytes) => { sent[number] += bytes.toString('latin1'); });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const close = () => { sockets.forEach((socket) => socket.destroy()); listener.close(); };
  return { port: listener.address().port, sent, close, get open() { return open; } };
}
