// Pages for a browser: the HTML of a test, with the libraries from npm.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const { resolve } = createRequire(import.meta.url);

const LIBRARIES = {
  '/echo.js': fileURLToPath(import.meta.resolve('laravel-echo')),
  '/pusher.js': resolve('pusher-js/dist/web/pusher.js'),
  '/pusher-with-encryption.js': resolve('pusher-js/dist/web/pusher-with-encryption.js'),
};

/** The equivalent of a bundler's `import Pusher from 'pusher-js'`: the file itself is not a module. */
const AS_MODULE = "import '/pusher.js';\nexport default window.Pusher;\n";

const IMPORTS = JSON.stringify({ imports: { 'laravel-echo': '/echo.js', 'pusher-js': '/pusher.mjs' } });

/** Serves one page whose only script is `module`, as if it had been pasted into a project with the two packages. */
export function servePage(module) {
  return serve(`<!doctype html><script type="importmap">${IMPORTS}</script><script type="module">${module}</script>`);
}

/** Serves one page of plain HTML. */
export async function serve(html) {
  const http = createServer(async ({ url }, response) => {
    const path = LIBRARIES[url];
    const script = url === '/pusher.mjs' ? AS_MODULE : path && await readFile(path);
    response.writeHead(200, { 'Content-Type': script ? 'text/javascript' : 'text/html; charset=utf-8' });
    response.end(script ?? html);
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return { url: `http://127.0.0.1:${http.address().port}/`, close: () => { http.close(); http.closeAllConnections(); } };
}
