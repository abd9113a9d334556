// Writes dist/campanile-resume.mjs and the UMD file dist/campanile-resume.js from src. `node build.mjs --check` compares them instead.

import { readFileSync, writeFileSync } from 'node:fs';

const NAMES = ['askEndpoint', 'cacheAuthorization', 'resume', 'resumePath'];
const HEAD = '// campanile-resume, MIT or Apache-2.0. Built from src by build.mjs.\n';
const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');

const sources = ['src/resume.mjs', 'src/auth-cache.mjs'].map(read);
const body = sources.map((text) => text.replaceAll(/^export /gm, '')).join('\n');
const indented = body.replaceAll(/^(?=.)/gm, '  ');

const files = {
  'dist/campanile-resume.mjs': `${HEAD}${body}\nexport { ${NAMES.join(', ')} };\n`,
  'dist/campanile-resume.js': `${HEAD}(function (root, factory) {
  if (typeof module === 'object' && module.exports) module.exports = factory();
  else if (typeof define === 'function' && define.amd) define([], factory);
  else root.CampanileResume = factory();
})(typeof globalThis === 'undefined' ? this : globalThis, function () {
  'use strict';
${indented}
  return { ${NAMES.join(', ')} };
});
`,
};

for (const [path, text] of Object.entries(files)) {
  if (!process.argv.includes('--check')) writeFileSync(new URL(path, import.meta.url), text);
  else if (read(path) !== text) throw new Error(`${path} is not what build.mjs makes of src: run it`);
}
