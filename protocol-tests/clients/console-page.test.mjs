// The parts of the console's page that need no browser: addresses, numbers, rates, and the live connection with a pretended WebSocket.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mock, test } from 'node:test';

import { command } from '../../console/src/command.js';
import { bytes, count, duration, exact, milliseconds, pretty, rate, sentence, short } from '../../console/src/format.js';
import { add, EMPTY, line } from '../../console/src/history.js';
import { Live } from '../../console/src/live.js';
import { parse, toApp } from '../../console/src/routes.js';

test('addresses of views lead back to what they were made of, whatever a channel is called', () => {
  for (const channel of ['news', 'private-a/b?c#d e%', 'presence-room;1,2@x=y.z']) {
    assert.deepEqual(parse(toApp('my app', 'channels', channel, { search: 'a&b' })), {
      view: 'channel', app: 'my app', item: channel, query: { search: 'a&b' },
    });
  }
  assert.deepEqual(parse(''), { view: 'overview', query: {} });
  assert.deepEqual(parse('#/apps/1/connections/12.34'), { view: 'connection', app: '1', item: '12.34', query: {} });
  for (const unknown of ['#/nowhere', '#/apps/1', '#/apps/1/log', '#/apps/1/publish/x', '#/apps/1/channels/a/b']) {
    assert.equal(parse(unknown).view, 'unknown', unknown);
  }
});

test('numbers are short, and have a unit', () => {
  assert.deepEqual([0, 999, 1234567].map(count), ['0', '999', '1,234,567']);
  assert.deepEqual([0, 0.44, 9.94, 9.96, 1234.5].map(rate), ['0', '0.4', '9.9', '10', '1,235']);
  assert.deepEqual([0, 2500, 12_500, 250_000, 3_400_000].map(short), ['0', '2,500', '12.5k', '250k', '3.4M']);
  assert.deepEqual([0, 999, 1010, 153_600, 5_368_709_120].map(bytes), ['0 B', '999 B', '1.0 KiB', '150 KiB', '5.0 GiB']);
  assert.deepEqual([0, 0.123, 4.25, 150, 1300].map(milliseconds), ['< 1 ms', '0.12 ms', '4.3 ms', '150 ms', '1.3 s']);
  assert.deepEqual([0.5, 59, 60, 3725, 90_061, 86_400].map(duration), ['0 s', '59 s', '1 min', '1 h 2 min', '1 d 1 h', '1 d']);
  for (const format of [count, rate, short, bytes, milliseconds, duration]) assert.equal(format(null), '–');
  assert.match(exact(Date.UTC(2026, 0, 31, 12)), /^2026-0[12]-\d\d \d\d:\d\d:00\.000 [+−]\d\d:\d\d$/);
  assert.equal(sentence('the app is disabled'), 'The app is disabled.');
  assert.equal(pretty('{"a":[1]}'), '{\n  "a": [\n    1\n  ]\n}');
  assert.equal(pretty('{not json'), '{not json');
});

const node = (name, messages_out, more = {}) => ({ node: name, connections: 2, messages_in: 0, messages_out, publishes: 0, bytes_out: 0, cpu_seconds: 0, ...more });
const overview = (time, nodes) => ({ time, nodes, latency_ms: null, apps: [] });

test('rates are those of all nodes, without one that has started anew or has just joined', () => {
  const first = add(EMPTY, overview(1000, [node('a', 100), node('b', 500)]));
  assert.deepEqual(first.rates, {});
  const second = add(first, overview(3000, [node('a', 120), node('b', 540), node('c', 9000)]));
  assert.equal(second.rates.messages_out, 30);
  assert.deepEqual([second.nodeRates.a.messages_out, second.nodeRates.b.messages_out, second.nodeRates.c], [10, 20, undefined]);
  const third = add(second, overview(4000, [node('a', 5), node('b', 550), node('c', 9001)]));
  assert.equal(third.rates.messages_out, 11);
  assert.deepEqual(line(third.samples, 'messages_out'), [null, 30, 11]);
  assert.deepEqual(line(third.samples, 'connections'), [4, 6, 6]);
});

test('a plot is interrupted where the connection was lost, and keeps five minutes', () => {
  let history = add(EMPTY, overview(1000, [node('a', 100)]), { gap: true });
  history = add(history, overview(2000, [node('a', 110)]));
  history = add(history, overview(60_000, [node('a', 900)]), { gap: true });
  assert.deepEqual(line(history.samples, 'messages_out'), [null, 10, null, null]);
  assert.deepEqual(line(history.samples, 'connections'), [2, 2, null, 2]);
  for (let second = 61; second < 400; second += 1) history = add(history, overview(second * 1000, [node('a', second)]));
  assert.equal(history.samples.length, 300);
});

test('a session of one app has connections and no nodes', () => {
  const history = add(EMPTY, { time: 1000, apps: [{ id: '1', connections: 7 }] });
  assert.deepEqual(line(history.samples, 'connections'), [7]);
  assert.deepEqual(history.rates, {});
});

/** A WebSocket whose other side is the test. */
class PretendedSocket {
  static OPEN = 1;
  static all = [];
  readyState = 0;
  sent = [];

  constructor(url, protocol) {
    Object.assign(this, { url: String(url), protocol });
    PretendedSocket.all.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  says(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  close() {
    this.readyState = 3;
    this.onclose();
  }
}

/** A live connection, the states that it reports, and its sockets. `sessions` are the answers to the question for a session. */
function pretended(t, sessions = ['csrf']) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  PretendedSocket.all = [];
  globalThis.WebSocket = PretendedSocket;
  globalThis.document = { baseURI: 'https://example.com/a/console/#/log' };
  t.after(() => {
    delete globalThis.WebSocket;
    delete globalThis.document;
  });
  const states = [];
  let asked = 0;
  const check = async () => {
    const session = sessions[Math.min(asked, sessions.length - 1)];
    asked += 1;
    if (session instanceof Error) throw session;
    return session;
  };
  return { live: new Live({ check, onState: (state) => states.push(state) }), states, sockets: PretendedSocket.all };
}

test('a watch begins when the connection opens, and again after a reconnect, with a longer wait each time', async (t) => {
  const { live, states, sockets } = pretended(t);
  const [snapshot, data] = [mock.fn(), mock.fn()];
  live.watch('overview', {}, { snapshot, data, error: assert.fail });
  await live.open();
  assert.deepEqual([sockets[0].url, sockets[0].protocol], ['wss://example.com/a/console/live', 'campanile-console.csrf']);
  sockets[0].open();
  const [{ id, watch }] = sockets[0].sent;
  assert.equal(watch, 'overview');
  sockets[0].says({ id, result: 1 });
  sockets[0].says({ watch: id, data: 2 });
  assert.deepEqual([snapshot.mock.calls[0].arguments, data.mock.calls[0].arguments], [[1], [2]]);

  for (const [attempt, longest_ms] of [[1, 1200], [2, 2400], [3, 4800]]) {
    sockets.at(-1).close();
    assert.equal(states.at(-1).status, 'lost');
    t.mock.timers.tick(longest_ms);
    await new Promise(setImmediate);
    assert.equal(sockets.length, attempt + 1, 'sockets');
  }
  sockets.at(-1).open();
  const [again] = sockets.at(-1).sent;
  assert.equal(again.watch, 'overview');
  sockets.at(-1).says({ id: again.id, result: 3 });
  assert.deepEqual(snapshot.mock.calls.at(-1).arguments, [3]);
});

test('a call waits for the connection, and is rejected when it is lost', async (t) => {
  const { live, sockets } = pretended(t);
  const early = live.call('publish', { app: '1' });
  await live.open();
  sockets[0].open();
  const [{ id, call, params }] = sockets[0].sent;
  assert.deepEqual([call, params], ['publish', { app: '1' }]);
  sockets[0].says({ id, result: { subscribers: 3 } });
  assert.deepEqual(await early, { subscribers: 3 });

  const rejected = live.call('publish', {});
  sockets[0].says({ id: sockets[0].sent.at(-1).id, error: 'no' });
  await assert.rejects(rejected, /^Error: no$/);
  const lost = live.call('publish', {});
  sockets[0].close();
  await assert.rejects(lost, /lost before it answered/);
  await assert.rejects(live.call('publish', {}), /is lost/);
});

test('a session that has ended ends the connection, and a server that is gone does not', async (t) => {
  const { live, states, sockets } = pretended(t, [new Error('gone'), 'csrf', null]);
  await live.open();
  assert.deepEqual([states.at(-1).status, states.at(-1).detail], ['lost', 'The server does not answer.']);
  await live.open();
  sockets[0].open();
  assert.equal(states.at(-1).status, 'open');
  sockets[0].close();
  assert.equal(states.at(-1).status, 'lost');
  const call = assert.rejects(live.call('publish', {}), /is lost/);
  const opening = live.open();
  const waiting = assert.rejects(live.call('publish', {}), /lost before it answered/);
  await Promise.all([call, opening, waiting]);
  assert.equal(states.at(-1).status, 'ended');
  t.mock.timers.tick(60_000);
  assert.equal(sockets.length, 1);
});

test('a connection that never opens is explained', async (t) => {
  const { live, states, sockets } = pretended(t);
  await live.open();
  sockets[0].close();
  assert.match(states.at(-1).detail, /does not pass WebSocket upgrades/);
});

test('the command prints the right authorization, whatever is in the key and the string', () => {
  for (const [key, string_to_sign] of [['key', '1.2:private-a'], ["k'$(date)`&;\\", `1.2:presence-a:{"user_id":"'$(date)' \\\\"}`]]) {
    const signature = createHmac('sha256', "a 's' $secret").update(string_to_sign).digest('hex');
    const text = command({ key, string_to_sign, is_complete: true });
    const printed = execFileSync('/bin/sh', ['-c', text], { env: { ...process.env, APP_SECRET: "a 's' $secret" } });
    assert.equal(String(printed), `${key}:${signature}\n`);
  }
});

test('there is no command for a string that is unknown, not whole, or not for a terminal', () => {
  const of = { key: 'key', string_to_sign: '1.2:private-a', is_complete: true };
  assert.notEqual(command(of), null);
  for (const change of [
    { string_to_sign: null }, { key: null }, { is_complete: false }, { string_to_sign: '\u0003rm' }, { string_to_sign: '\u001b[201~' }, { key: 'a\u202eb' },
  ]) {
    assert.equal(command({ ...of, ...change }), null, JSON.stringify(change));
  }
});
