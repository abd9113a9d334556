// Reads the configuration in docs/proxies.md, so that the tests use exactly the documented text.

import { readFileSync } from 'node:fs';

const PAGE = new URL('../../../../docs/proxies.md', import.meta.url);
const BLOCK = /^```(\w+)\n# (.+)\n([^]*?)^```$/gm;

const page = readFileSync(PAGE, 'utf8');
const blocks = new Map(Array.from(page.matchAll(BLOCK), ([, language, title, text]) => [`${language} ${title}`, text]));

/** The block of the page in `language` whose first line is the comment `title`, with `changes` applied. */
export function documented(language, title, changes = {}) {
  const text = blocks.get(`${language} ${title}`);
  if (text === undefined) throw new Error(`docs/proxies.md has no ${language} block that begins with "# ${title}"`);
  return changed(text, changes);
}

/** The Apache modules that the page enables. */
export function documentedModules() {
  const [, names] = /^sudo a2enmod ([\w ]+)$/m.exec(page) ?? [];
  if (!names) throw new Error('docs/proxies.md has no line "sudo a2enmod …"');
  return names.split(' ');
}

/** `text` with each key of `changes` replaced everywhere by its value, as literal text. Each key must occur. */
export function changed(text, changes) {
  return Object.entries(changes).reduce((before, [from, to]) => {
    if (!before.includes(from)) throw new Error(`docs/proxies.md has lost "${from}", here:\n${before}`);
    return before.replaceAll(from, to);
  }, text);
}

/** Replaces the ports of the documentation, 8080 and those after it, by those of `servers`. */
export function ports(servers, before = '127.0.0.1:') {
  return Object.fromEntries(servers.map(({ port }, at) => [`${before}${8080 + at}`, `${before}${port}`]));
}
