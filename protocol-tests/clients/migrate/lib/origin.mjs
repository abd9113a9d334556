// A WebSocket client of a page, which sends the page's origin. pusher-js sends none in Node.

import { request } from 'node:http';

import { within } from '../../lib/waiting.mjs';

/** The first frame that the server sends to a page of `origin`. */
export async function firstFrame(server, key, origin) {
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    Origin: origin,
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  const asked = request(`${server.url}/app/${key}?protocol=7`, { headers });
  const frame = new Promise((resolve, reject) => {
    asked.on('error', reject);
    asked.on('response', ({ statusCode }) => reject(new Error(`the handshake was answered with ${statusCode}`)));
    asked.on('upgrade', (_, socket, head) => {
      const arrived = (bytes) => {
        socket.destroy();
        resolve(bytes.toString());
      };
      if (head.length > 0) arrived(head);
      else socket.once('data', arrived);
    });
  });
  asked.end();
  return within(frame, `the first frame for ${origin}`);
}
