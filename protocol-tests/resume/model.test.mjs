// The attacks against a small server that follows the rules of resume, and against one that lacks a rule: each has to be noticed.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { loseGap } from './lib/aimed.mjs';
import { startModel } from './lib/model.mjs';
import { runSeeds } from './lib/run-seeds.mjs';

/** One client of each combination of libraries, twice. */
const SEEDS = Array.from({ length: 10 }, (_, at) => at + 1);

/** Runs all cuts, or the named ones, and returns `{ violations, socketIds, changes, repeated, gaps }`. */
async function attack(settings, names, cuts = 3) {
  const server = await startModel(settings);
  try {
    const { results, changes } = await runSeeds(server, { seeds: SEEDS, cuts, names });
    const sum = (key) => results.reduce((total, result) => total + result[key], 0);
    return {
      violations: results.flatMap(({ violations }) => violations),
      socketIds: Math.max(...results.map(({ socketIds }) => socketIds)),
      changes: changes.length, repeated: sum('repeated'), gaps: sum('gaps'),
    };
  } finally {
    server.close();
  }
}

async function gapIsLost(rules) {
  const server = await startModel({ maxEvents: 10, rules });
  try {
    return await loseGap(server, 10);
  } finally {
    server.close();
  }
}

// They wait more than they compute.
describe('the attacks', { concurrency: 4 }, () => {
  test('with all rules, nothing is missed, no socket id changes, and no member leaves', async () => {
    const { violations, socketIds, changes, repeated } = await attack({});
    assert.deepEqual([violations, socketIds, changes], [[], 1, 0]);
    assert.ok(repeated > 0, 'some events were in flight');
  });

  test('a replay that is too long is a gap, with a notice in its place', async () => {
    const { violations, gaps } = await attack({ maxEvents: 5 }, ['blackHole', 'resetAtReturn']);
    assert.deepEqual(violations, []);
    assert.ok(gaps > 0, 'there are gap notices');
  });

  for (const [rule, names, settings] of [
    ['resume', ['reset']],
    ['replayNeedsOwnPing', ['resetAtFirstAnswer']],
    ['ignoresReplaced', ['lateReturn']],
    ['keepsUnclaimed', ['resetAtReturn', 'lateReturn']],
    ['keepsPosition', ['lateSignature']],
    ['announcesGaps', ['reset'], { maxEvents: 5 }],
    ['excludesAuthor', ['reset']],
  ]) {
    test(`without the rule ${rule}, violations are found`, async () => {
      const { violations } = await attack({ ...settings, rules: { [rule]: false } }, names, 2);
      assert.ok(violations.length > 0, 'nothing was found');
    });
  }

  test('a gap notice that is lost is repeated', async () => {
    assert.deepEqual(await gapIsLost({}), []);
  });

  test('without the rule acknowledgesGaps, violations are found', async () => {
    assert.match((await gapIsLost({ acknowledgesGaps: false }))[0], /missing/);
  });

  test('without the rule timedOutIsLost, presence changes are found', async () => {
    const { changes } = await attack({ rules: { timedOutIsLost: false } }, ['healedBlackHole', 'frozenDown'], 2);
    assert.ok(changes > 0, 'no member has left');
  });
});
