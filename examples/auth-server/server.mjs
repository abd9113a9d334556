// The application server of the examples: it serves a page, says who may enter a channel, and publishes messages.
//
//     node server.mjs FOLDER
//
// In an application, the session says who the user is. Here, the page does, in the header X-User.

import { createHash, createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, resolve, sep } from 'node:path';

const env = process.env;
const APP = {
  id: env.PUSHER_APP_ID ?? 'app-id',
  key: env.PUSHER_APP_KEY ?? 'app-key',
  secret: env.PUSHER_APP_SECRET ?? 'app-secret',
};
const CAMPANILE = { host: env.PUSHER_HOST ?? '127.0.0.1', port: Number(env.PUSHER_PORT ?? 8080) };
const FOLDER = resolve(process.argv[2] ?? '.');
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript' };
const MAX_BODY_BYTES = 16_384;

const hmac = (text) => createHmac('sha256', APP.secret).update(text).digest('hex');

/** The answer for pusher-js that lets `user` into a channel. */
function authorize(user, socketId, channel) {
  if (!channel.startsWith('presence-')) return { auth: `${APP.key}:${hmac(`${socketId}:${channel}`)}` };
  const data = JSON.stringify({ user_id: user, user_info: { name: user } });
  return { auth: `${APP.key}:${hmac(`${socketId}:${channel}:${data}`)}`, channel_data: data };
}

/** Publishes events, all or none; an SDK does the same. */
async function publish(batch) {
  const path = `/apps/${APP.id}/batch_events`;
  const body = JSON.stringify({ batch });
  const query = new URLSearchParams({
    auth_key: APP.key,
    auth_timestamp: Math.floor(Date.now() / 1000),
    auth_version: '1.0',
    body_md5: createHash('md5').update(body).digest('hex'),
  });
  query.set('auth_signature', hmac(`POST\n${path}\n${query}`));
  const answer = await fetch(`http://${CAMPANILE.host}:${CAMPANILE.port}${path}?${query}`, { method: 'POST', body });
  if (!answer.ok) throw new Error(`Campanile answered ${answer.status}: ${await answer.text()}`);
}

const routes = {
  'POST /broadcasting/auth': async (user, body) => {
    const form = new URLSearchParams(body);
    return authorize(user, form.get('socket_id'), form.get('channel_name'));
  },
  'POST /messages': async (user, body) => {
    const { text, socketId } = JSON.parse(body);
    await publish([
      { name: 'message.sent', channel: 'private-room.1', data: JSON.stringify({ from: user, text }), socket_id: socketId },
      { name: 'headline', channel: 'news', data: JSON.stringify({ text: `${user} wrote a message` }) },
    ]);
    return {};
  },
  // For pages without a bundler.
  'GET /config.js': async () => `window.campanile = ${JSON.stringify({ key: APP.key, ...CAMPANILE })};`,
};

async function bodyOf(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new Error('the body is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function answer(request) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const route = routes[`${request.method} ${pathname}`];
  const user = request.headers['x-user'];
  if (route && request.method === 'POST' && !user) return { status: 403, type: '.json', content: '{}' };
  if (route) {
    const value = await route(user, await bodyOf(request));
    return { status: 200, type: '.js', content: typeof value === 'string' ? value : JSON.stringify(value) };
  }
  const path = join(FOLDER, pathname === '/' ? 'index.html' : decodeURIComponent(pathname));
  if (!path.startsWith(FOLDER + sep)) return { status: 404, type: '.html', content: '' };
  return { status: 200, type: extname(path), content: await readFile(path) };
}

const server = createServer(async (request, response) => {
  const { status, type, content } = await answer(request).catch((error) => {
    const isMissing = error.code === 'ENOENT';
    if (!isMissing) console.error(error.message);
    return { status: isMissing ? 404 : 500, type: '.html', content: '' };
  });
  response.writeHead(status, { 'Content-Type': TYPES[type] ?? 'application/json' });
  response.end(content);
});

server.listen(Number(env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`The example is on http://127.0.0.1:${server.address().port}/?name=Ann: open it again as ?name=Bob`);
});
