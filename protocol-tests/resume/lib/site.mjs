// The pages of the browser tests: stock pusher-js and laravel-echo from npm, and the application that authorizes them.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const { resolve } = createRequire(import.meta.url);
const own = (name) => fileURLToPath(new URL(name, import.meta.url));

const SCRIPTS = {
  '/pusher-7.js': resolve('pusher-js-7/dist/web/pusher-with-encryption.js'),
  '/pusher-8.js': resolve('pusher-js-8/dist/web/pusher-with-encryption.js'),
  '/echo-1.js': resolve('laravel-echo-1').replace('common', 'iife'),
  '/echo-2.js': resolve('laravel-echo-2').replace('common', 'iife'),
  '/campanile-resume.mjs': own('../../../clients/campanile-resume/dist/campanile-resume.mjs'),
  '/recorder.mjs': own('recorder.mjs'),
  '/page.mjs': own('page.mjs'),
};

/** Starts the site. `sign(socketId, channel)` authorizes, and `authenticate(socketId)` the user who signs in. */
export async function startSite(sign, authenticate) {
  const http = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://site');
    const path = SCRIPTS[pathname];
    if (path) answer(response, 'text/javascript', await readFile(path));
    else if (pathname === '/auth') answer(response, 'application/json', JSON.stringify(await signed(request, sign)));
    else if (pathname === '/user-auth') answer(response, 'application/json', JSON.stringify(await signed(request, authenticate)));
    else if (pathname === '/page') answer(response, 'text/html; charset=utf-8', page(JSON.parse(searchParams.get('settings'))));
    else answer(response, 'text/html; charset=utf-8', '<!doctype html><title>another page</title>');
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const url = `http://127.0.0.1:${http.address().port}`;
  return {
    otherPage: `${url}/other`,
    pageWith: (settings) => `${url}/page?settings=${encodeURIComponent(JSON.stringify(settings))}`,
    close: () => { http.close(); http.closeAllConnections(); },
  };
}

function page({ library: { pusher, echo }, ...settings }) {
  const scripts = [`/pusher-${pusher}.js`, ...(echo ? [`/echo-${echo}.js`] : [])].map((src) => `<script src="${src}"></script>`);
  const data = JSON.stringify({ echo, ...settings }).replaceAll('<', '\\u003c');
  return `<!doctype html><title>a page</title>${scripts.join('')}<script>window.settings = ${data};</script><script type="module" src="/page.mjs"></script>`;
}

async function signed(request, sign) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const form = new URLSearchParams(Buffer.concat(chunks).toString());
  return sign(form.get('socket_id'), form.get('channel_name'));
}

function answer(response, type, body) {
  // Pages with `no-store` are not kept for the Back button.
  response.writeHead(200, { 'Content-Type': type });
  response.end(body);
}
