// Breaks clusters from seeds, and prints what came of it: a line for each fault and kind of client.
//
//   npm run cluster -- --first 1 --seeds 20                  # all faults, and the restart of all nodes
//   npm run cluster -- --fault 'a node is killed'            # one of them
//   npm run cluster -- --fault 'all nodes are restarted'
//   npm run cluster -- --list

import { parseArgs } from 'node:util';

import { Server } from '../clients/lib/server.mjs';
import { Cluster } from './lib/cluster.mjs';
import { CLUSTER_FAULTS, judgeFault, ROLLING_RESTART, runFault, runRollingRestart } from './lib/cluster-faults.mjs';

const ALL = 'all nodes are restarted';
const KEYS = ['connections', 'received', 'missed', 'gaps', 'repeated'];

const { values } = parseArgs({
  options: {
    first: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '5' },
    fault: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});
const faults = { ...CLUSTER_FAULTS, [ALL]: ROLLING_RESTART };
if (values.list || (values.fault && !faults[values.fault])) {
  console.log(Object.keys(faults).join('\n'));
  process.exit(values.list ? 0 : 2);
}

const rows = new Map();
let wrong = 0;
const first = Number(values.first);
for (let seed = first; seed < first + Number(values.seeds); seed += 1) {
  for (const name of values.fault ? [values.fault] : Object.keys(faults)) {
    const lines = await run(name, seed).catch((error) => [error.stack]);
    wrong += lines.length;
    if (lines.length > 0) console.log(`seed ${seed}, ${name}:\n  ${lines.join('\n  ')}`);
  }
}
console.table([...rows.values()]);
process.exit(wrong > 0 ? 1 : 0);

/** Breaks one cluster. Returns what is wrong. */
async function run(name, seed) {
  const servers = [];
  const start = async (...args) => {
    servers.push(await Server.start(...args));
    return servers.at(-1);
  };
  const fault = faults[name];
  const cluster = await Cluster.start(start, { ...fault, hidden: name === ALL ? 0 : 1 });
  try {
    const { result, figures } = name === ALL ? await rollingRestart(cluster, seed) : { result: await runFault(fault, cluster, { seed }) };
    if (figures) console.log(JSON.stringify(figures));
    count(name, fault.stock, 'stock', result.stock, result.changes);
    count(name, fault.helped, 'campanile-resume', result.helped, result.changes);
    return judgeFault(fault, result);
  } finally {
    await cluster.close();
    const broken = (await Promise.all(servers.map((server) => server.fault()))).filter(Boolean);
    await Promise.all(servers.map((server) => server.removeFolder()));
    if (broken.length > 0) console.log(`seed ${seed}, ${name}, nodes:\n  ${broken.join('\n  ')}`);
    wrong += broken.length;
  }
}

async function rollingRestart(cluster, seed) {
  const { run: result, figures } = await runRollingRestart(cluster, { seed });
  const asked = figures.authorizations;
  wrong += asked;
  if (asked > 0) console.log(`seed ${seed}: the application was asked ${asked} times`);
  return { result, figures };
}

function count(fault, expected, client, results, changes) {
  const key = `${fault}/${client}`;
  const row = rows.get(key) ?? { fault, client, expected, clients: 0, ...Object.fromEntries(KEYS.map((each) => [each, 0])), presence: 0 };
  rows.set(key, row);
  row.clients += results.length;
  row.presence += changes.length;
  for (const result of results) for (const each of KEYS) row[each] += result[each];
}
