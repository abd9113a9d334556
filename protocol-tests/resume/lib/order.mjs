// The order of a channel's events, from what several clients received: no client of a cluster is sure to receive everything.

import { nameOf } from './checker.mjs';

/**
 * Merges the clients' logs into one order that has all published events. Throws if two clients received events in different orders, or one
 * received a publisher's events out of order. What no client received has its place in a gap that all of them had, if there is one; without an
 * answer of a node it is left out.
 */
export function mergedOrder(logs, channel, published) {
  const perLog = logs.map((log) => firstReceived(log, channel));
  const sequences = perLog.flat();
  const received = new Set(sequences.flat());
  const events = new Map(published.filter((event) => event.channel === channel).map((event) => [nameOf(event), event]));
  const wanted = [...events].filter(([name, { isUnknown }]) => !isUnknown || received.has(name)).map(([name]) => name);
  const stray = [...received].find((name) => !events.has(name));
  if (stray) throw new Error(`${channel}: received ${stray}, which was not published`);
  const inGaps = wanted.filter((name) => !received.has(name)).flatMap((name) => placeInGaps(name, perLog));
  const names = inOrder(wanted, [...byPublisher(wanted), ...inGaps, ...sequences]);
  if (names.length < wanted.length) {
    const left = wanted.find((name) => !names.includes(name));
    throw new Error(`${channel}: clients received events in different orders; one of them is ${left}`);
  }
  return names.map((name) => events.get(name));
}

/** What a client received of a channel, each event once, in pieces between which it may have missed some. */
function firstReceived(log, channel) {
  const known = new Set();
  const pieces = [[]];
  for (const entry of log) {
    // The last event before a gap is repeated, so the pieces stay in order.
    if (entry.channel === channel && entry.kind === 'gap') pieces.push(pieces.at(-1).slice(-1));
    if (entry.channel !== channel || entry.kind !== 'event' || known.has(nameOf(entry))) continue;
    known.add(nameOf(entry));
    pieces.at(-1).push(nameOf(entry));
  }
  return pieces;
}

/**
 * An event that no client received, between those around the gap of each client in which it must have been published: in each, if a client has
 * but one.
 */
function placeInGaps(name, perLog) {
  const places = perLog.map((pieces) => placesIn(name, pieces)).filter(({ length }) => length > 0);
  const certain = places.filter(({ length }) => length === 1).flat();
  return certain.length > 0 ? certain : places.slice(0, 1).flatMap(([first]) => [first]);
}

/** What surrounds the event in each gap of a client in which it can have been published. */
function placesIn(name, pieces) {
  const [from, n] = partsOf(name);
  const all = (names, fits) => names.map(partsOf).every(([other, number]) => other !== from || fits(number));
  const places = [];
  for (let at = 1; at < pieces.length; at += 1) {
    const before = pieces.slice(0, at).flat();
    // A piece begins with the last event of the one before, if there is one.
    const after = pieces.slice(at).flat().filter((other) => !before.includes(other));
    if (all(before, (number) => number < n) && all(after, (number) => n < number)) places.push([...before.slice(-1), name, ...after.slice(0, 1)]);
  }
  return places;
}

function partsOf(name) {
  const [from, n] = name.split('/');
  return [from, Number(n)];
}

/** What each publisher published, in its order. */
function byPublisher(names) {
  const all = new Map();
  for (const name of names) {
    const [from, n] = partsOf(name);
    if (!all.has(from)) all.set(from, []);
    all.get(from).push({ name, n });
  }
  return [...all.values()].map((own) => own.sort((a, b) => a.n - b.n).map(({ name }) => name));
}

/**
 * The names in an order in which each sequence is in order; without those of which no such order exists. What directly follows an event in a
 * sequence follows it directly here as well, if possible.
 */
function inOrder(names, sequences) {
  const next = new Map(names.map((name) => [name, new Set()]));
  const waits = new Map(names.map((name) => [name, 0]));
  for (const sequence of sequences) {
    for (let at = 1; at < sequence.length; at += 1) {
      const followers = next.get(sequence[at - 1]);
      if (followers.has(sequence[at])) continue;
      followers.add(sequence[at]);
      waits.set(sequence[at], waits.get(sequence[at]) + 1);
    }
  }
  const free = names.filter((name) => waits.get(name) === 0);
  const order = [];
  while (free.length > 0) {
    // The latest that has become free follows directly.
    const name = free.pop();
    order.push(name);
    for (const follower of next.get(name)) {
      waits.set(follower, waits.get(follower) - 1);
      if (waits.get(follower) === 0) free.push(follower);
    }
  }
  return order;
}
