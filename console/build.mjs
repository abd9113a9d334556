// Builds the page: `node build.mjs [FOLDER]`, into `dist` if no folder is named.

import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const STATIC = ['index.html', 'icon.svg'];

/** The oldest browsers that the page supports: those with `<dialog>`, `:focus-visible` and `color-mix`. */
const TARGET = ['chrome111', 'firefox113', 'safari16.4'];

/** The bundle contains both libraries, whose licence asks for its text in all copies. */
async function licences() {
  const texts = await Promise.all(['preact', 'uplot'].map((name) => readFile(join(HERE, 'node_modules', name, 'LICENSE'), 'utf8')));
  const holders = texts.map((text) => /^Copyright.*$/m.exec(text)[0]);
  const terms = texts[0].slice(texts[0].indexOf('Permission is')).trim();
  return `/*!\nContains Preact and uPlot, under the MIT License.\n${holders.join('\n')}\n\n${terms}\n*/`;
}

const folder = process.argv[2] ?? join(HERE, 'dist');
await mkdir(folder, { recursive: true });
await build({
  absWorkingDir: HERE,
  entryPoints: ['src/app.js', 'src/app.css'],
  entryNames: '[name]',
  outdir: folder,
  bundle: true,
  format: 'esm',
  minify: true,
  charset: 'utf8',
  target: TARGET,
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  banner: { js: await licences() },
  logLevel: 'warning',
});
await Promise.all(STATIC.map((name) => copyFile(join(HERE, 'src', name), join(folder, name))));
