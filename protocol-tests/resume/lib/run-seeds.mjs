// Runs clients in Node with cuts from seeds, against one server.

import { LIBRARIES } from './clients.mjs';
import { NodeClient } from './cut-client.mjs';
import { excludesInTurn } from './publishers.mjs';
import { Channels } from './stage.mjs';

/** Time between two events of a publisher. */
const PAUSE_MS = 25;

/** Runs a client for each seed, all at the same time, each with `cuts` cuts. Returns their results, and presence changes meanwhile. */
export async function runSeeds(server, { seeds, cuts, names, options, excludesAuthors = true }) {
  const channels = new Channels(server);
  const clients = seeds.map((seed) => new NodeClient(channels, LIBRARIES[seed % LIBRARIES.length], seed));
  try {
    await channels.open();
    await Promise.all(clients.map((client) => client.open(options)));
    const before = channels.witness.log.length;
    channels.publish(() => PAUSE_MS, excludesAuthors ? excludesInTurn(clients) : undefined);
    const ends = await Promise.allSettled(clients.map((client) => client.suffer(cuts, names)));
    const last = await channels.end();
    const results = await Promise.all(clients.map(async (client, at) => {
      const { violations, ...result } = await client.judge(last);
      const stuck = ends[at].reason ? [ends[at].reason.message] : [];
      return { ...result, seed: seeds[at], violations: [...stuck, ...violations] };
    }));
    const changes = channels.witness.log.slice(before).filter(({ kind }) => kind === 'added' || kind === 'removed');
    return { results, changes };
  } finally {
    await Promise.all(clients.map((client) => client.close()));
    channels.close();
  }
}
