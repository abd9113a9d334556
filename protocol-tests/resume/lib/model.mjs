// A small server with resume, in which each rule can be removed: the attacks are run against it to see that they notice.
//
// It serves one app to pusher-js and the SDK for Node, and checks no signatures.

import { createServer } from 'node:http';
import { once } from 'node:events';

import { WebSocketServer } from 'ws';

/** The rules of resume. A test removes one of them. */
export const RULES = {
  /** Sessions with a token are kept. */
  resume: true,
  /** `pusher:ping` asks for the acknowledgement, which only the page's own code answers. Otherwise WebSocket pings do. */
  pageAnswers: true,
  /** A pong counts for a channel only if its ping was written after that channel's replay. */
  replayNeedsOwnPing: true,
  /** Input of a connection that was replaced is ignored. */
  ignoresReplaced: true,
  /** A line that is cut during a return leaves the channels parked that it has not subscribed to yet. */
  keepsUnclaimed: true,
  /** A second subscribe to a live channel keeps its position. */
  keepsPosition: true,
  /** 1005, and in Node 1000, after a `pusher:ping` of the client is a lost line. */
  timedOutIsLost: true,
  /** 1001 keeps the presence for a while: a page that was frozen closes so when it comes back. */
  thawedIsLost: true,
  /** A replay that is too long is announced as a gap. */
  announcesGaps: true,
  /** The position behind a gap counts when its notice is acknowledged. */
  acknowledgesGaps: true,
  /** A client that counts is told its position in place of an event that excludes it. */
  tellsExcluded: true,
  /** Events that exclude the client are not replayed to it. */
  excludesAuthor: true,
};
const EPOCH = 'model';
/** Silence after which an acknowledgement is asked for. */
const QUIET_MS = 20;
const SESSION_PATH = /^\/app\/resume-([\w-]+)\/app\//;

export async function startModel({ rules = {}, maxEvents = 300, activityTimeout_s = 30, pingEvery_ms = 1_000 } = {}) {
  const model = new Model({ ...RULES, ...rules }, { maxEvents, activityTimeout_s, pingEvery_ms });
  await model.listen();
  return model;
}

class Model {
  #http = createServer((request, response) => this.#publish(request, response));
  #sockets = new WebSocketServer({ server: this.#http, perMessageDeflate: false });
  #connections = new Set();
  /** Every event of each channel: `{ sequence, text, except }`. */
  #logs = new Map();
  #sessions = new Map();
  #ids = 0;

  constructor(rules, limits) {
    Object.assign(this, { rules, limits });
    this.#sockets.on('connection', (socket, { url }) => this.#accept(socket, url));
  }

  async listen() {
    this.#http.listen(0, '127.0.0.1');
    await once(this.#http, 'listening');
    this.port = this.#http.address().port;
  }

  close() {
    for (const { socket } of this.#connections) socket.terminate();
    this.#http.close();
    this.#http.closeAllConnections();
  }

  logOf(channel) {
    if (!this.#logs.has(channel)) this.#logs.set(channel, []);
    return this.#logs.get(channel);
  }

  /** Sends a presence change to the channel's members. */
  announce(channel, change, user) {
    const data = JSON.stringify({ user_id: user });
    for (const connection of this.#connections) {
      if (connection.channels.has(channel)) connection.send({ event: `pusher_internal:member_${change}`, channel, data });
    }
  }

  /** The users of a presence channel, parked ones included. */
  usersOf(channel) {
    const all = [...this.#connections, ...[...this.#sessions.values()].map(({ parked }) => parked).filter(Boolean)];
    return all.map(({ channels }) => channels.get(channel)?.user).filter(Boolean);
  }

  #accept(socket, url) {
    const token = this.rules.resume && SESSION_PATH.exec(url)?.[1];
    const session = token ? this.#session(token) : undefined;
    const socketId = session?.socketId ?? `1.${this.#ids += 1}`;
    const connection = new Connection(this, socket, session, socketId);
    this.#connections.add(connection);
    socket.on('close', (code) => {
      this.#connections.delete(connection);
      connection.closed(code);
    });
  }

  #session(token) {
    if (!this.#sessions.has(token)) this.#sessions.set(token, { socketId: `1.${this.#ids += 1}`, current: undefined, parked: undefined });
    return this.#sessions.get(token);
  }

  async #publish(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { name, data, channel, channels = [channel], socket_id: except } = JSON.parse(Buffer.concat(chunks).toString());
    for (const each of channels) {
      const log = this.logOf(each);
      const entry = { sequence: log.length + 1, text: JSON.stringify({ event: name, channel: each, data }), except };
      log.push(entry);
      for (const connection of this.#connections) connection.deliver(each, entry);
    }
    response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
  }
}

class Connection {
  /** Subscriptions: `{ position, user }`, where `position` is the acknowledged one. */
  channels = new Map();
  /** What was written and is not acknowledged: `{ count, channel, sequence }`. */
  #unacknowledged = [];
  #count = 0;
  #outstanding;
  #pinged_ms = 0;
  #quiet;
  #isReplaced = false;
  #hasPinged = false;
  #told;

  constructor(model, socket, session, socketId) {
    Object.assign(this, { model, socket, session, socketId });
    socket.on('message', (text) => this.#hear(JSON.parse(text)));
    socket.on('pong', () => model.rules.pageAnswers || this.#acknowledge());
    socket.on('error', () => {});
    this.send({ event: 'pusher:connection_established', data: JSON.stringify({ socket_id: socketId, activity_timeout: model.limits.activityTimeout_s }) });
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  deliver(channel, { sequence, text, except }, count = this.#count += 1) {
    const subscription = this.channels.get(channel);
    if (!subscription) return;
    if (except !== this.socketId) this.socket.send(text);
    else if (this.model.rules.tellsExcluded) this.#tellPosition(channel, sequence);
    this.#unacknowledged.push({ count, channel, sequence });
    this.#askSoon();
  }

  /** Parks the session, or forgets its presence. */
  closed(code) {
    clearTimeout(this.#quiet);
    if (!this.session || this.#isReplaced) return;
    const isTimeout = [1000, 1005].includes(code) && this.#hasPinged && this.model.rules.timedOutIsLost;
    // A page that comes back by Back, or is thawed, closes with 1001, as a closed tab does.
    const isThawed = code === 1001 && this.model.rules.thawedIsLost;
    const isOwn = [1000, 1001, 1005].includes(code) && !isTimeout && !isThawed;
    if (this.session.current === this) this.#park();
    if (isOwn) this.#leavePresence();
  }

  #leavePresence() {
    for (const [name, subscription] of this.channels) {
      const { user } = subscription;
      subscription.user = undefined;
      if (user && !this.model.usersOf(name).includes(user)) this.model.announce(name, 'removed', user);
    }
  }

  #park() {
    // A line that is cut during a return has taken only some of the parked channels.
    const rest = this.model.rules.keepsUnclaimed ? this.session.parked?.channels ?? [] : [];
    this.session.parked = { channels: new Map([...rest, ...this.channels]) };
    this.session.current = undefined;
  }

  #hear({ event, data }) {
    if (this.#isReplaced && this.model.rules.ignoresReplaced) return;
    if (this.session && this.session.current !== this && !this.#isReplaced) this.#takeOver();
    if (event === 'pusher:ping') {
      this.#hasPinged = true;
      this.send({ event: 'pusher:pong', data: '{}' });
    }
    if (event === 'pusher:pong') this.#acknowledge();
    if (event === 'pusher:subscribe') this.#subscribe(data.channel, data.channel_data);
    if (event === 'campanile:resume') this.#told = { ...this.#told, ...data.channels };
  }

  #takeOver() {
    const old = this.session.current;
    if (old) {
      old.#isReplaced = true;
      old.#park();
      if (this.model.rules.ignoresReplaced) old.socket.terminate();
    }
    this.session.current = this;
  }

  #subscribe(name, memberText) {
    const log = this.model.logOf(name);
    const live = this.channels.get(name);
    if (live) {
      if (!this.model.rules.keepsPosition) live.position = log.length;
      this.#succeed(name);
      return;
    }
    const parked = this.session?.parked?.channels.get(name);
    this.session?.parked?.channels.delete(name);
    const user = memberText && JSON.parse(memberText).user_id;
    const isNew = user && !this.model.usersOf(name).includes(user) && parked?.user !== user;
    const told = this.#told?.[name];
    const from = told?.[0] === EPOCH ? told[1] : parked?.position;
    if (isNew) this.model.announce(name, 'added', user);
    this.channels.set(name, { position: from ?? log.length, user });
    this.#replay(name, from, log);
  }

  #replay(name, from, log) {
    const missed = log.slice(from ?? log.length).filter(({ except }) => except !== this.socketId || !this.model.rules.excludesAuthor);
    const isTooLong = missed.length > this.model.limits.maxEvents;
    this.#succeed(name);
    if (isTooLong) {
      if (this.model.rules.announcesGaps) this.send({ event: 'campanile:gap', channel: name, data: JSON.stringify({ channel: name, since_ms: 0 }) });
      if (!this.model.rules.acknowledgesGaps) this.channels.get(name).position = log.length;
      this.#tellPosition(name, log.length);
      this.#unacknowledged.push({ count: this.#count += 1, channel: name, sequence: log.length });
      this.#askSoon();
      return;
    }
    const count = this.model.rules.replayNeedsOwnPing ? undefined : 0;
    const { excludesAuthor } = this.model.rules;
    // The count of a client that counts is right at each event, also where one excludes it.
    for (const entry of log.slice(from ?? log.length)) {
      this.deliver(name, excludesAuthor ? entry : { ...entry, except: undefined }, count);
    }
    this.#tellPosition(name, log.length);
  }

  /** The client counts from here on. What it would count wrongly is followed by another position. */
  #tellPosition(channel, sequence) {
    if (this.#told) this.send({ event: 'pusher_internal:position', channel, data: JSON.stringify([EPOCH, sequence]) });
  }

  #succeed(channel) {
    const users = this.model.usersOf(channel);
    const presence = { ids: users, count: users.length, hash: Object.fromEntries(users.map((user) => [user, {}])) };
    const data = JSON.stringify(channel.startsWith('presence-') ? { presence } : {});
    this.send({ event: 'pusher_internal:subscription_succeeded', channel, data });
  }

  #askSoon() {
    if (!this.session) return;
    clearTimeout(this.#quiet);
    if (Date.now() - this.#pinged_ms >= this.model.limits.pingEvery_ms) this.#ask();
    else this.#quiet = setTimeout(() => this.#ask(), QUIET_MS);
  }

  #ask() {
    if (this.#outstanding !== undefined) return;
    this.#outstanding = this.#count;
    this.#pinged_ms = Date.now();
    if (this.model.rules.pageAnswers) this.send({ event: 'pusher:ping', data: '{}' });
    else this.socket.ping();
  }

  #acknowledge() {
    if (this.#outstanding === undefined) return;
    const isCovered = ({ count }) => count <= this.#outstanding;
    for (const { channel, sequence } of this.#unacknowledged.filter(isCovered)) {
      const subscription = this.channels.get(channel);
      if (subscription) subscription.position = Math.max(subscription.position, sequence);
    }
    this.#unacknowledged = this.#unacknowledged.filter((entry) => !isCovered(entry));
    this.#outstanding = undefined;
    if (this.#unacknowledged.length > 0) this.#askSoon();
  }
}
