// Unmodified pusher-js and Echo in Node, whose lines are cut in all ways that a seed draws: nothing is missed.

import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { test } from '../clients/lib/stage.mjs';
import { resume } from '../../clients/campanile-resume/dist/campanile-resume.mjs';
import { loseGap } from './lib/aimed.mjs';
import { CUTS } from './lib/cuts.mjs';
import { runSeeds } from './lib/run-seeds.mjs';

/** Four clients of each combination of libraries; `npm run seeds` takes more. */
const SEEDS = Array.from({ length: 20 }, (_, at) => at + 1);

/** Fails unless all clients are whole, with one socket id, and no member has left. */
function assertWhole({ results, changes }) {
  const broken = results.filter(({ violations, socketIds }) => violations.length > 0 || socketIds > 1);
  const lines = broken.map(({ seed, name, cuts, socketIds, violations }) => (
    `seed ${seed}, ${name}, after ${cuts}: ${socketIds} socket ids, ${violations.length} violations: ${violations.slice(0, 3).join('; ')}`
  ));
  assert.deepEqual(lines, []);
  assert.deepEqual(changes.map(({ kind, user }) => `${user} ${kind}`), [], 'presence changes');
}

// They wait more than they compute.
describe('with stock clients', { concurrency: 4 }, () => {
  test('nothing is missed after cuts of all kinds', async (stage) => {
    assertWhole(await runSeeds(await stage.server(), { seeds: SEEDS, cuts: 4 }));
  });

  for (const name of Object.keys(CUTS)) {
    test(`nothing is missed after ${name}`, async (stage) => {
      assertWhole(await runSeeds(await stage.server(), { seeds: [3, 4, 6], cuts: 2, names: [name] }));
    });
  }

  test('what is too much for a replay is a gap, with a notice in its place', async (stage) => {
    const server = await stage.server({ connection: { resume_max_events: 5 } });
    const run = await runSeeds(server, { seeds: SEEDS.slice(0, 10), cuts: 2, names: ['reset', 'blackHole', 'resetAtReturn'] });
    assertWhole(run);
    assert.ok(run.results.some(({ gaps }) => gaps > 0), 'there are gap notices');
  });

  test('with campanile-resume, nothing comes twice either', async (stage) => {
    // A replay does not tell of the events in it that exclude the client, so a cut within it makes one come twice.
    const run = await runSeeds(await stage.server(), { seeds: SEEDS, cuts: 4, options: { before: resume }, excludesAuthors: false });
    assertWhole(run);
    assert.deepEqual(run.results.filter(({ repeated }) => repeated > 0).map(({ seed, cuts, repeated }) => `seed ${seed}, ${cuts}: ${repeated}`), []);
  });

  test('a gap notice that is lost is repeated', async (stage) => {
    assert.deepEqual(await loseGap(await stage.server({ connection: { resume_max_events: 10 } }), 10), []);
  });
});
