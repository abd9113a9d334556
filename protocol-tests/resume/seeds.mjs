// Runs cuts from seeds against the server, and prints what came of it:
//
//   npm run seeds -- --first 1 --seeds 200 --cuts 10
//   npm run seeds -- --helper                          # with campanile-resume: nothing twice
//   npm run seeds -- --cut healedBlackHole --model     # one kind of cut, against the model server

import { parseArgs } from 'node:util';

import { resume } from '../../clients/campanile-resume/dist/campanile-resume.mjs';
import { Server } from '../clients/lib/server.mjs';
import { startModel } from './lib/model.mjs';
import { runSeeds } from './lib/run-seeds.mjs';

/** Clients at the same time; more of them keep Node itself busy. */
const AT_ONCE = 20;

const { values } = parseArgs({
  options: {
    first: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '40' },
    cuts: { type: 'string', default: '6' },
    cut: { type: 'string' },
    helper: { type: 'boolean', default: false },
    model: { type: 'boolean', default: false },
    'max-events': { type: 'string', default: '300' },
    without: { type: 'string' },
  },
});
const first = Number(values.first);
const count = Number(values.seeds);
const total = { clients: 0, connections: 0, received: 0, repeated: 0, gaps: 0, missed: 0, violations: 0, presenceChanges: 0 };

for (let from = first; from < first + count; from += AT_ONCE) {
  const seeds = Array.from({ length: Math.min(AT_ONCE, first + count - from) }, (_, at) => from + at);
  const server = values.model ? await startModel({ maxEvents: Number(values['max-events']), rules: values.without ? { [values.without]: false } : {} }) : await Server.start();
  const { results, changes } = await runSeeds(server, { seeds, cuts: Number(values.cuts), names: values.cut && [values.cut], options: values.helper ? { before: resume } : {} });
  for (const result of results) {
    total.clients += 1;
    total.violations += result.violations.length;
    for (const key of ['connections', 'received', 'repeated', 'gaps', 'missed']) total[key] += result[key];
    if (result.violations.length > 0 || result.socketIds > 1) {
      console.log(`seed ${result.seed} (${result.name}; ${result.cuts}), ${result.socketIds} socket ids:\n  ${result.violations.slice(0, 4).join('\n  ')}`);
    }
  }
  total.presenceChanges += changes.length;
  if (changes.length > 0) console.log('presence changes:', ...changes.map(({ kind, user }) => `${user} ${kind}`));
  await (values.model ? server.close() : server.stop().then(() => server.removeFolder()));
}
console.log(total);
process.exit(total.violations > 0 ? 1 : 0);
