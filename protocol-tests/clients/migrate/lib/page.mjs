// A page of docs/migrate as its reader follows it.
//
// - A block of `sh` is typed in the project's folder, line by line.
// - A block of `dotenv` is set in `.env`: a line replaces the one of the same name, or is added above the `VITE_` lines.
// - A block of another language belongs to the file that the text above it names, by its last verb: "Write `FILE`:" makes this the
//   content of the file, "`FILE` is now:" says that it is the content already, "`FILE` has:" that it is a part of the file.
// - The text between blocks is for people: it says when to stop and start the other server.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

const PAGES = new URL('../../../../docs/migrate/', import.meta.url);
const SENTENCES = [
  ['write', /\bWrite `([^`]+)`:$/],
  ['is', /`([^`]+)` is now:$/],
  ['has', /`([^`]+)` has:$/],
];

/** The headings of a page's sections that have blocks, in order. */
export async function headingsOf(name) {
  const sections = await sectionsOf(name);
  return sections.filter(({ text }) => text.includes('```')).map(({ heading }) => heading);
}

async function sectionsOf(name) {
  const page = await readFile(new URL(name, PAGES), 'utf8');
  return page.split(/^##+ /m).map((text) => ({ heading: text.split('\n', 1)[0], text }));
}

/** The steps of a section of a page, in order: `{ kind, file, text }`. */
export async function stepsOf(name, heading) {
  const section = (await sectionsOf(name)).find((each) => each.heading === heading)?.text;
  assert.ok(section, `${name} has the heading "${heading}"`);
  assert.equal(section.match(/^ *```/gm).length % 2, 0, `the blocks of ${name} under "${heading}" end`);
  const steps = [];
  let above = '';
  for (const [, indent, language, block, line] of section.matchAll(/^( *)```(\w+)\n([^]*?)^\1```$|^(.*\S.*)$/gm)) {
    if (line !== undefined) {
      above = line;
    } else {
      steps.push(stepOf(language, block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''), above));
    }
  }
  assert.ok(steps.length > 0, `${name} says what to do under "${heading}"`);
  return steps;
}

function stepOf(language, text, above) {
  if (language === 'sh') return { kind: 'run', text };
  if (language === 'dotenv') return { kind: 'set', file: '.env', text };
  for (const [kind, sentence] of SENTENCES) {
    const [, file] = sentence.exec(above) ?? [];
    if (file) return { kind, file, text };
  }
  throw new Error(`"${above}" does not say what this block is:\n${text}`);
}
