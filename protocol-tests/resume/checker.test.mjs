// The checker itself: what it accepts, and what it does not.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { check, orderOf } from './lib/checker.mjs';
import { mergedOrder } from './lib/order.mjs';

const ORDER = [1, 2, 3, 4, 5, 6].map((n) => ({ channel: 'news', from: 'web', n }));
const CONNECTED = { kind: 'connected', socketId: '1.1' };
const PING = { kind: 'ping' };
const GAP = { kind: 'gap', channel: 'news' };
const events = (...numbers) => numbers.map((n) => ({ kind: 'event', channel: 'news', from: 'web', n }));

/** The violations of a log, and what it counts. */
function judge(...log) {
  return check([CONNECTED, ...log.flat()], 'news', ORDER);
}

test('a client that received everything once is whole', () => {
  const { violations, received, repeated, missed } = judge(events(1, 2, 3, 4, 5, 6));
  assert.deepEqual([violations, received, repeated, missed], [[], 6, 0, 0]);
});

test('a missing event is a violation, and with a gap notice in its place it is not', () => {
  assert.match(judge(events(1, 2, 4, 5, 6)).violations[0], /1 missing before web\/4/);
  assert.match(judge(events(1, 2, 3, 4)).violations[0], /2 missing at the end/);
  assert.deepEqual(judge(events(1, 2), GAP, events(4, 5, 6)).violations, []);
  assert.deepEqual(judge(events(1, 2), GAP).violations, []);
});

test('a gap notice in another place or on another channel excuses nothing', () => {
  assert.match(judge(events(1), GAP, events(2, 4, 5, 6)).violations[0], /1 missing/);
  assert.match(judge(events(1, 2), { ...GAP, channel: 'other' }, events(4, 5, 6)).violations[0], /1 missing/);
});

test('what was in flight may come again after a reconnection', () => {
  const { violations, repeated } = judge(events(1, 2, 3), CONNECTED, events(2, 3, 4, 5, 6));
  assert.deepEqual([violations, repeated], [[], 2]);
});

test('nothing comes again without a reconnection, and a replay has no holes', () => {
  assert.match(judge(events(1, 2, 3, 2, 3, 4, 5, 6)).violations[0], /outside of a replay/);
  assert.match(judge(events(1, 2, 3, 4), CONNECTED, events(1, 3, 4, 5, 6)).violations[0], /outside of a replay/);
});

test('what was acknowledged does not come again', () => {
  assert.match(judge(events(1, 2), PING, events(3), PING, CONNECTED, events(2, 3, 4, 5, 6)).violations[0], /which was acknowledged/);
  // The answer to the latest ping may be lost.
  assert.deepEqual(judge(events(1, 2), PING, CONNECTED, events(1, 2, 3, 4, 5, 6)).violations, []);
});

test('of a server that also asks idle clients, two pings may be unanswered', () => {
  const log = [CONNECTED, ...events(1, 2), PING, ...events(3), PING, CONNECTED, ...events(2, 3, 4, 5, 6)];
  assert.deepEqual(check(log, 'news', ORDER, 2).violations, []);
  log.splice(6, 0, PING);
  assert.match(check(log, 'news', ORDER, 2).violations[0], /which was acknowledged/);
});

test('a ping on the next connection acknowledges nothing that only the one before it has received', () => {
  assert.deepEqual(judge(events(1, 2, 3), CONNECTED, PING, PING, events(1, 2, 3, 4, 5, 6)).violations, []);
});

test('an event that excludes the client is not expected, and not allowed', () => {
  const order = ORDER.map((event) => (event.n === 3 ? { ...event, except: '1.1' } : event));
  assert.deepEqual(check([CONNECTED, ...events(1, 2, 4, 5, 6)], 'news', order).violations, []);
  assert.match(check([CONNECTED, ...events(1, 2, 3, 4, 5, 6)], 'news', order).violations[0], /not for this client/);
});

test('of a client with several ids, an event that excludes one of them may come or not', () => {
  const order = ORDER.map((event) => (event.n === 3 ? { ...event, except: '1.2' } : event));
  const other = { ...CONNECTED, socketId: '1.2' };
  assert.deepEqual(check([CONNECTED, ...events(1, 2), other, ...events(4, 5, 6)], 'news', order).violations, []);
  assert.deepEqual(check([CONNECTED, ...events(1, 2), other, ...events(3, 4, 5, 6)], 'news', order).violations, []);
  assert.match(check([CONNECTED, ...events(1), other, ...events(4, 5, 6)], 'news', order).violations[0], /1 missing/);
});

test('a witness with a hole or in another order is no witness', () => {
  assert.throws(() => orderOf(events(1, 2, 3, 4, 5), 'news', ORDER), /5 of 6/);
  assert.throws(() => orderOf(events(1, 2, 3, 5, 4, 6), 'news', ORDER), /out of order/);
});

/** The order according to several clients, each with the numbers that it received and `GAP` for a gap notice. */
function merge(published, ...logs) {
  const entries = logs.map((log) => log.map((entry) => (entry === GAP ? GAP : eventOf(entry))));
  return mergedOrder(entries, 'news', published.map(eventOf)).map(({ from, n }) => `${from}${n}`).join(' ');
}

/** `a1` is the first event of publisher a; with a `?`, no node has answered. */
function eventOf(text) {
  return { kind: 'event', channel: 'news', from: text[0], n: Number(text[1]), isUnknown: text.endsWith('?') };
}

test('what several clients received makes one order', () => {
  const published = ['b1', 'a1', 'b2', 'a2'];
  assert.equal(merge(published, ['a1', 'b1', 'a2', 'b2']), 'a1 b1 a2 b2');
  assert.equal(merge(published, ['a1', 'b1', GAP, 'b2'], ['a1', GAP, 'a2', 'b2']), 'a1 b1 a2 b2');
  assert.equal(merge(published, ['b1', GAP, 'b2', 'a2'], ['b1', 'a1', GAP, 'a2']), 'b1 a1 b2 a2');
  assert.equal(merge(published, ['a1', 'b1', 'a1', 'b1', 'a2', 'b2']), 'a1 b1 a2 b2', 'a replay changes nothing');
});

test('what no client received is in the order, unless no node has answered', () => {
  assert.equal(merge(['a1', 'a2', 'a3'], ['a1', 'a3']), 'a1 a2 a3');
  assert.equal(merge(['a1', 'a2?', 'a3'], ['a1', 'a3']), 'a1 a3');
  assert.equal(merge(['a1', 'a2?', 'a3'], ['a1', 'a3'], ['a1', 'a2', 'a3']), 'a1 a2 a3');
});

test('what no client received was published in a gap that they had', () => {
  const published = ['a1', 'b1', 'a2', 'b2', 'a3', 'b3'];
  assert.equal(merge(published, ['a1', 'b1', GAP, 'b3', 'a3'], ['a1', GAP, 'b3', 'a3']), 'a1 b1 a2 b2 b3 a3');
  assert.equal(merge(published, ['a1', 'b1', 'a2', GAP, 'b3', 'a3']), 'a1 b1 a2 b2 b3 a3');
  assert.equal(merge(['a1', 'b1', 'c1', 'a2'], ['a1', GAP, 'a2'], ['a1', GAP, 'b1', 'a2']), 'a1 c1 b1 a2', 'the gap of each client');
  assert.equal(merge(['a1', 'a2', 'a3'], [GAP, 'a2'], ['a2', GAP]), 'a1 a2 a3');
});

test('clients with different orders, and events that were not published, are errors', () => {
  assert.throws(() => merge(['a1', 'b1'], ['a1', 'b1'], ['b1', 'a1']), /different orders/);
  assert.throws(() => merge(['a1', 'a2'], ['a2', 'a1']), /different orders/);
  assert.throws(() => merge(['a1'], ['a1', 'a2']), /not published/);
});
