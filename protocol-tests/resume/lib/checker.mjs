// Compares what a client recorded with what was published.
//
// The order of a channel is that of a witness, a client whose line is never cut; see `order.mjs` if there is none. For each channel:
// - nothing is missing, unless a gap notice stands in its place;
// - the order is the witness's, also in what is received again;
// - an event is received again only after a reconnection, and only if it can have been in flight: the client has not answered
//   for it, or the server may not have received that answer.

/** The order of a channel according to the witness, which must have everything: `published` is `[{ from, n, channel, except }]`. */
export function orderOf(witness, channel, published) {
  const names = new Map(published.filter((event) => event.channel === channel).map((event) => [nameOf(event), event]));
  const order = witness.filter((entry) => entry.kind === 'event' && entry.channel === channel).map((entry) => names.get(nameOf(entry)));
  const latest = new Map();
  for (const event of order) {
    if (event.n <= (latest.get(event.from) ?? -1)) throw new Error(`the witness received ${nameOf(event)} out of order`);
    latest.set(event.from, event.n);
  }
  if (order.length !== names.size) throw new Error(`the witness has ${order.length} of ${names.size} events of ${channel}`);
  return order;
}

/**
 * Compares a client's `log` with the order of `channel`. Returns `{ violations, received, repeated, gaps, missed }`. `pings` is how many pings of
 * the server may be unanswered at the same time: 2 if it asks idle clients whether they live.
 */
export function check(log, channel, order, pings = 1) {
  const ids = new Set(log.filter(({ kind }) => kind === 'connected').map(({ socketId }) => socketId));
  const excludes = ({ except }) => except !== undefined && ids.has(except);
  // Of a client that had several ids, it is not known which one it had when an event was published.
  const wanted = ids.size > 1 ? order : order.filter((event) => !excludes(event));
  const reader = new Reader(channel, new Map(wanted.map((event, at) => [nameOf(event), at])), wanted.map(excludes), pings);
  for (const entry of log) reader.read(entry);
  return reader.result(wanted.length);
}

/** Names an event of a channel. */
export function nameOf({ from, n }) {
  return `${from}/${n}`;
}

/** Reads a log in order. */
class Reader {
  #channel;
  #places;
  /** Whether the event at each place may be missing. */
  #optional;
  #violations = [];
  #counts = { received: 0, repeated: 0, gaps: 0, missed: 0 };
  /** The place after the latest event, and after the highest. */
  #next = 0;
  #highest = 0;
  /** Events below this place are acknowledged for certain. */
  #acknowledged = 0;
  /** What the answer to each ping of this connection acknowledges, unless it is lost. */
  #asked = [];
  #pings;
  /** The place after the latest event of this connection. What only an earlier one received is not acknowledged on this one. */
  #here = 0;
  #isReturn = false;
  #hasGap = false;
  /** The number of connections, and of the channel's events on this one. */
  #connections = 0;
  #events = 0;

  constructor(channel, places, optional, pings) {
    this.#channel = channel;
    this.#places = places;
    this.#optional = optional;
    this.#pings = pings;
  }

  read(entry) {
    if (entry.kind === 'connected') {
      [this.#isReturn, this.#asked, this.#here] = [true, [], this.#acknowledged];
      [this.#connections, this.#events] = [this.#connections + 1, 0];
    }
    if (entry.kind === 'ping') {
      this.#asked.push(this.#here);
      // The server does not ask before it has the answers to earlier pings, so this one proves that it has them.
      this.#acknowledged = this.#asked.at(-1 - this.#pings) ?? this.#acknowledged;
    }
    if (entry.channel !== this.#channel) return;
    if (entry.kind === 'gap') [this.#hasGap, this.#counts.gaps] = [true, this.#counts.gaps + 1];
    if (entry.kind === 'event') this.#event(nameOf(entry));
  }

  result(wanted) {
    if (this.#highest < wanted) this.#missing(wanted, 'at the end');
    return { violations: this.#violations, ...this.#counts };
  }

  #event(name) {
    const at = this.#places.get(name);
    if (at === undefined) {
      this.#violation(`received ${name}, which is not for this client`);
      return;
    }
    this.#counts.received += 1;
    this.#events += 1;
    if (at < this.#highest) this.#again(at, name);
    else if (this.#highest < at) this.#missing(at, `before ${name}, event ${this.#events} of connection ${this.#connections}`);
    this.#next = at + 1;
    this.#here = at + 1;
    this.#highest = Math.max(this.#highest, this.#next);
    [this.#isReturn, this.#hasGap] = [false, false];
  }

  #again(at, name) {
    this.#counts.repeated += 1;
    const places = this.#acknowledged - at;
    if (places > 0) this.#violation(`${name} again, which was acknowledged: ${places} places before the acknowledged position`);
    // A replay may begin anywhere, and then goes on without a hole.
    else if (!this.#isReturn && at !== this.#next) this.#violation(`${name} again or out of order, outside of a replay`);
  }

  #missing(to, where) {
    const missing = this.#optional.slice(this.#highest, to).filter((isOptional) => !isOptional).length;
    this.#counts.missed += missing;
    if (missing > 0 && !this.#hasGap) this.#violation(`${missing} missing ${where}, without a gap notice`);
  }

  #violation(text) {
    this.#violations.push(`${this.#channel}: ${text}`);
  }
}
