// Unmodified pusher-js and Echo, in Node and in a page, and clients with campanile-resume, in a cluster whose lines, nodes, Redis and load
// balancer fail.

import assert from 'node:assert/strict';
import { after, describe } from 'node:test';

import { test } from '../../clients/lib/stage.mjs';
import { Chromium } from '../lib/chromium.mjs';
import { LIBRARIES } from '../lib/clients.mjs';
import { Cluster } from '../lib/cluster.mjs';
import { CLUSTER_FAULTS, judgeFault, ROLLING_RESTART, runFault, runRollingRestart } from '../lib/cluster-faults.mjs';
import { attackPage } from '../lib/page-attacks.mjs';

const browser = await Chromium.start();
after(() => browser.close());

async function startCluster(stage, given) {
  return stage.closing(await Cluster.start((settings, port) => stage.server(settings, port), given));
}

// They wait more than they compute.
describe('in a cluster', { concurrency: 5 }, () => {
  for (const [at, [name, fault]] of Object.entries(CLUSTER_FAULTS).entries()) {
    test(`${fault.stock} when ${name}; with campanile-resume ${fault.helped}, and nothing twice`, async (stage) => {
      const cluster = await startCluster(stage, { ...fault, hidden: 1 });
      const run = await runFault(fault, cluster, { browser, pages: [LIBRARIES[at % LIBRARIES.length]], seed: at });
      assert.deepEqual(judgeFault(fault, run), []);
    });
  }

  for (const name of ['leaves, loses its line, and comes back by Back', 'is frozen while its line is reset', 'gets 200 KiB and is reset at the acknowledgement']) {
    test(`a page that ${name} misses nothing, on another node`, async (stage) => {
      const cluster = await startCluster(stage, { hidden: 1 });
      const result = await attackPage(cluster, browser, name, { pusher: 8, echo: 2 });
      assert.deepEqual(result.violations, [], `after ${result.cuts}`);
      assert.deepEqual([result.socketIds, result.changes, result.moves], [1, 0, 1], 'socket ids, presence changes, and moves');
    });
  }

  test('a restart of all nodes, one after the other, is not noticed, and the application is not asked again', async (stage) => {
    const cluster = await startCluster(stage);
    const { run, figures } = await runRollingRestart(cluster, { browser, pages: [{ pusher: 8 }], libraries: [...LIBRARIES, ...LIBRARIES] });
    console.log('rolling restart:', JSON.stringify(figures));
    assert.deepEqual(judgeFault(ROLLING_RESTART, run), []);
    assert.deepEqual([figures.missing, figures.authorizations], [0, 0], 'missing events, and authorizations');
    assert.ok(figures.clients <= figures.reconnections, 'the clients were on the nodes');
  });
});
