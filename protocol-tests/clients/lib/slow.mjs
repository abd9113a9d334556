// A client that subscribes and then does not read.

import { once } from 'node:events';
import { connect } from 'node:net';
import { randomBytes } from 'node:crypto';

import { APP } from './server.mjs';
import { within } from './waiting.mjs';

/** Connects, subscribes to a public channel and stops reading. Resolves with its socket id. */
export async function openSlowClient(stage, server, channel, appKey = APP.key) {
  const socket = connect(server.port, '127.0.0.1');
  stage.closing({ close: () => socket.destroy() });
  socket.on('error', () => {});
  await once(socket, 'connect');
  const key = randomBytes(16).toString('base64');
  socket.write(`GET /app/${appKey}?protocol=7&client=slow&version=1.0 HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\n`
    + `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
  let received = '';
  const says = (pattern) => within(new Promise((resolve) => {
    const look = (part) => {
      received += part.toString('latin1');
      const found = pattern.exec(received);
      if (!found) return;
      socket.off('data', look);
      resolve(found);
    };
    socket.on('data', look);
  }), `${pattern} for the slow client`);
  const [, socketId] = await says(/socket_id\\":\\"([\d.]+)/);
  const subscribed = says(/subscription_succeeded/);
  socket.write(masked(JSON.stringify({ event: 'pusher:subscribe', data: { channel } })));
  await subscribed;
  socket.pause();
  return socketId;
}

/** A text frame of a client, with at most 125 bytes. */
function masked(text) {
  const payload = Buffer.from(text);
  const mask = randomBytes(4);
  const content = payload.map((byte, at) => byte ^ mask[at % 4]);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, content]);
}
