// Publishing through a proxy: bodies, reused connections, and answers.

import assert from 'node:assert/strict';

import { openSdk, subscribed } from '../lib/clients.mjs';
import { inbox, until } from '../lib/waiting.mjs';
import { ask } from './lib/plain.mjs';
import { startTap } from './lib/tap.mjs';
import { CLOSE_IDLE, HOLD_PUBLISHES, behindEach } from './lib/through.mjs';

const EVENTS = '/apps/tests/events';
const LONG = 'x'.repeat(50_000);

behindEach('an event that is sent in chunks arrives', async (stage, before) => {
  const { proxy, heard, body } = await listener(stage, before);
  const chunks = [body.slice(0, 10), body.slice(10, 30_000), body.slice(30_000)];

  const { status } = await ask(proxy, signed(proxy, body), { method: 'POST', chunks });

  assert.equal(status, 200);
  assert.equal(await heard.next(), LONG);
});

behindEach('an event arrives that is passed on in chunks', async (stage, before) => {
  const { proxy, tap, heard, body } = await listener(stage, before, { change: 'unbuffered' });
  const isOnItsWay = () => tap.sent.some((sent) => /^POST [^]*\r\ntransfer-encoding: chunked\r\n/im.test(sent));
  async function* chunks() {
    yield body.slice(0, 30_000);
    await until('the beginning of the request at the server', isOnItsWay);
    yield body.slice(30_000);
  }

  const { status } = await ask(proxy, signed(proxy, body), { method: 'POST', chunks: chunks() });

  assert.equal(status, 200);
  assert.equal(await heard.next(), LONG);
});

behindEach('publishes one after the other use one connection to the server', async (stage, before) => {
  const tap = stage.closing(await startTap(await stage.server()));
  const sdk = openSdk(await before(tap));
  // The requests from the start of the proxy are complete after this one.
  await sdk.trigger('news', 'flash', 'first');
  const connections = tap.sent.length;

  for (let count = 0; count < 20; count += 1) await sdk.trigger('news', 'flash', count);

  assert.equal(tap.sent.length, connections);
});

behindEach('publishes fail while the server is away, and succeed as soon as it is back', async (stage, before) => {
  const server = await stage.server();
  const sdk = openSdk(await before(server));
  await sdk.trigger('news', 'flash', 'first');

  await server.stop();
  await assert.rejects(sdk.trigger('news', 'flash', 'lost'), ({ status }) => status === 502 || status === 503);
  await stage.server({}, server.port);

  assert.equal((await sdk.trigger('news', 'flash', 'second')).status, 200);
});

behindEach('a publish while the server restarts is accepted when it is back', async (stage, before) => {
  const server = await stage.server();
  const sdk = openSdk(await before(server));
  await sdk.trigger('news', 'flash', 'first');
  await server.stop();

  const [response] = await Promise.all([sdk.trigger('news', 'flash', 'second'), stage.server({}, server.port)]);

  assert.equal(response.status, 200);
}, HOLD_PUBLISHES);

behindEach('the proxy closes idle connections to the server', async (stage, before) => {
  const tap = stage.closing(await startTap(await stage.server()));
  const sdk = openSdk(await before(tap, { change: 'shortKeepalive' }));

  await sdk.trigger('news', 'flash', 'first');

  // The server would do so after 90 seconds, and could do so just when the proxy sends the next request.
  await until('connections that are closed', () => tap.open === 0, 20_000);
}, CLOSE_IDLE);

behindEach('a body that is too large is rejected by the server itself, with its reason', async (stage, before) => {
  const proxy = await before(await stage.server());
  const body = JSON.stringify({ name: 'flash', channel: 'news', data: 'x'.repeat(1_048_576) });

  const answer = await ask(proxy, signed(proxy, body), { method: 'POST', chunks: [body] });

  assert.equal(answer.status, 413);
  assert.match(JSON.parse(answer.body).error, /max_request_bytes/);
});

/** A server with a tap, a proxy before it, a subscriber, and the body of a publish to it. */
async function listener(stage, before, options) {
  const server = await stage.server();
  const tap = stage.closing(await startTap(server));
  const heard = inbox('the event');
  (await subscribed(stage.pusher(server).subscribe('news'))).bind('flash', heard);
  const body = JSON.stringify({ name: 'flash', channel: 'news', data: LONG });
  return { tap, heard, body, proxy: await before(tap, options) };
}

function signed(proxy, body) {
  return `${EVENTS}?${openSdk(proxy).createSignedQueryString({ method: 'POST', path: EVENTS, body })}`;
}
