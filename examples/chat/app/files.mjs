// The files of the page, and the two libraries from npm.

import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PUBLIC = fileURLToPath(new URL('../public/', import.meta.url));
const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The files by path. Others are not served, so no path can escape the directory. */
export function filesFor() {
  const own = ['', 'js'].flatMap((folder) => readdirSync(join(PUBLIC, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => [`/${join(folder, entry.name)}`, join(PUBLIC, folder, entry.name)]));
  const libraries = [
    ['/vendor/echo.js', fileURLToPath(import.meta.resolve('laravel-echo'))],
    ['/vendor/pusher.js', createRequire(import.meta.url).resolve('pusher-js/dist/web/pusher.min.js')],
  ];
  const files = new Map([...own, ...libraries].map(([address, path]) => [address, { path, type: TYPES[extname(path)] }]));
  files.set('/', files.get('/index.html'));
  return files;
}
