// Waiting in tests: for an event, and at most for a deadline.

import { setTimeout as delay } from 'node:timers/promises';

/** Long enough for a busy machine; a passing test never waits this long. */
export const DEADLINE_MS = 10_000;

/** `promise`, or a failure that contains `what`. */
export async function within(promise, what, deadline_ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadline_ms} ms in vain for ${what}`)), deadline_ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Calls `probe` repeatedly until it returns a truthy value, for changes that are not announced. */
export async function until(what, probe, deadline_ms = DEADLINE_MS) {
  const end = Date.now() + deadline_ms;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`asked for ${deadline_ms} ms in vain for ${what}`);
    await delay(20);
  }
}

/**
 * A callback that records its calls in order.
 *
 * `next()` returns the oldest call that was not returned yet, and waits for it if necessary; `all` contains all calls.
 */
export function inbox(what, pick = (value) => value) {
  const all = [];
  let taken = 0;
  let wake = () => {};
  const hear = (...values) => {
    all.push(pick(...values));
    wake();
  };
  hear.all = all;
  hear.next = async (deadline_ms) => {
    const arrived = async () => {
      while (all.length <= taken) await new Promise((resolve) => { wake = resolve; });
    };
    await within(arrived(), what, deadline_ms);
    return all[taken++];
  };
  return hear;
}
