// Public, private and encrypted channels: authorization and delivery.

import assert from 'node:assert/strict';

import { openSdk, errorsOf, joined, settled, subscribed } from './lib/clients.mjs';
import { Denied } from './lib/backend.mjs';
import { APP } from './lib/server.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

const WRONG_SIGNATURE = { auth: `${APP.key}:${'0'.repeat(64)}` };

test('an event on a public channel reaches every subscriber', async (stage) => {
  const { server, sdk } = await stage.set();
  const heard = await Promise.all(['ann', 'bob', 'eve'].map(async (name) => {
    const mine = inbox(`the event at ${name}`);
    const channel = await subscribed(stage.pusher(server).subscribe('news'));
    channel.bind('flash', mine);
    return mine;
  }));

  await sdk.trigger('news', 'flash', { title: 'Bells', count: 3 });

  for (const mine of heard) assert.deepEqual(await mine.next(), { title: 'Bells', count: 3 });
});

test('Echo enters a private channel with the signature of the application', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const echo = stage.echo(server, { backend, user: 'ann' });
  const heard = inbox('the event');
  const channel = await joined(echo.private('orders.7').listen('.shipped', heard));

  await sdk.trigger('private-orders.7', 'shipped', { id: 7 });

  assert.deepEqual(await heard.next(), { id: 7 });
  assert.equal(channel.name, 'private-orders.7');
});

test('Echo receives event classes by their namespace', async (stage) => {
  const { server, sdk } = await stage.set();
  const heard = inbox('the event');
  await joined(stage.echo(server).channel('orders').listen('OrderShipped', heard));

  await sdk.trigger('orders', 'App\\Events\\OrderShipped', { id: 5 });

  assert.deepEqual(await heard.next(), { id: 5 });
});

test('a rejection by the application calls error() with its status', async (stage) => {
  const { server, backend } = await stage.set({}, { authorize: () => { throw new Denied(403); } });
  const rejected = inbox('the refusal');
  stage.echo(server, { backend }).private('secrets').error(rejected);

  const { type, status } = await rejected.next();

  assert.deepEqual({ type, status }, { type: 'AuthError', status: 403 });
});

test('a wrong signature is rejected by the server and calls error()', async (stage) => {
  const { server, backend } = await stage.set({}, { authorize: () => WRONG_SIGNATURE });
  const echo = stage.echo(server, { backend });
  const errors = errorsOf(echo.connector.pusher);
  const rejected = inbox('the refusal');
  const entered = inbox('a subscription');
  echo.private('secrets').subscribed(entered).error(rejected);

  const { type, error, status } = await rejected.next();

  assert.deepEqual({ type, status }, { type: 'AuthError', status: 401 });
  assert.ok(error.includes('private-secrets'), `the reason names the channel: ${error}`);
  assert.ok((await errors.next()).message.includes('private-secrets'));
  await settled(echo.connector.pusher);
  assert.equal(entered.all.length, 0);
  assert.equal(echo.connectionStatus(), 'connected');
});

test('a client whose subscription was rejected receives no events', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const strangers = await stage.backend(sdk, { authorize: () => WRONG_SIGNATURE });
  const [member, stranger] = [
    stage.pusher(server, { backend, user: 'ann' }),
    stage.pusher(server, { backend: strangers, user: 'eve' }),
  ];
  const [atMember, atStranger, rejected] = [inbox('the event'), inbox('the leak'), inbox('the refusal')];
  (await subscribed(member.subscribe('private-secrets'))).bind('plan', atMember);
  const shut = stranger.subscribe('private-secrets');
  shut.bind('plan', atStranger);
  shut.bind('pusher:subscription_error', rejected);
  await rejected.next();

  await sdk.trigger('private-secrets', 'plan', 'at midnight');

  assert.equal(await atMember.next(), 'at midnight');
  await settled(stranger);
  assert.deepEqual(atStranger.all, []);
});

test('a signature for one connection is rejected for another', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const ann = stage.pusher(server, { backend, user: 'ann' });
  await subscribed(ann.subscribe('private-secrets'));
  const stolen = sdk.authorizeChannel(ann.connection.socket_id, 'private-secrets');
  const thieves = await stage.backend(sdk, { authorize: () => stolen });
  const rejected = inbox('the refusal');

  stage.pusher(server, { backend: thieves }).subscribe('private-secrets').bind('pusher:subscription_error', rejected);

  assert.equal((await rejected.next()).status, 401);
});

test('after unsubscribing, nothing more arrives', async (stage) => {
  const { server, sdk } = await stage.set();
  const [leaver, witness] = [stage.pusher(server), stage.pusher(server)];
  const [atLeaver, atWitness] = [inbox('an event for the leaver'), inbox('an event for the witness')];
  for (const [pusher, heard] of [[leaver, atLeaver], [witness, atWitness]]) {
    (await subscribed(pusher.subscribe('news'))).bind('flash', heard);
  }
  leaver.connection.bind('message', ({ channel, event }) => channel === 'news' && atLeaver(event));

  leaver.unsubscribe('news');
  await settled(leaver);
  await sdk.trigger('news', 'flash', 'too late');

  assert.equal(await atWitness.next(), 'too late');
  await settled(leaver);
  assert.deepEqual(atLeaver.all, []);
});

test('Echo leaves a channel and can enter it again', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const echo = stage.echo(server, { backend, user: 'ann' });
  await joined(echo.private('news'));

  echo.leave('news');
  const heard = inbox('the event');
  await joined(echo.private('news').listen('.flash', heard));
  await sdk.trigger('private-news', 'flash', 'once');
  await sdk.trigger('private-news', 'flash', 'twice');

  assert.deepEqual([await heard.next(), await heard.next()], ['once', 'twice']);
});

test('names and data in any script arrive as they were sent', async (stage) => {
  const { server, sdk } = await stage.set();
  const channel = await subscribed(stage.pusher(server).subscribe('world'));
  const samples = {
    'grüße': 'Straße, naïve, Ærøskøbing',
    'привет': 'Съешь ещё этих мягких французских булок',
    '你好': '漢字、仮名、한글',
    'שלום': 'מימין לשמאל وبالعربية',
    emoji: '🔔👩‍👩‍👧‍👦🏳️‍🌈 and a lone \u{1F1EE}',
    'App\\Events\\Quoted': 'back\\slash "quotes" \'single\' </script> & \u2028 \u2029 \n \t \u0001',
    'combining': 'e\u0301 is not \u00e9, and \u200b has no width',
  };
  for (const [name, text] of Object.entries(samples)) {
    const heard = inbox(name);
    channel.bind(name, heard);
    await sdk.trigger('world', name, { text });
    assert.deepEqual(await heard.next(), { text }, name);
  }
});

test('the connection in socket_id does not receive the event: toOthers', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const [author, reader] = [stage.echo(server, { backend, user: 'ann' }), stage.echo(server, { backend, user: 'bob' })];
  const [atAuthor, atReader] = [inbox('the event at its author'), inbox('the event at the reader')];
  await joined(author.private('room').listen('.message', atAuthor));
  await joined(reader.private('room').listen('.message', atReader));

  await sdk.trigger('private-room', 'message', 'for others', { socket_id: author.socketId() });
  await sdk.trigger('private-room', 'message', 'for all');

  // A channel has one order: if the author had received the first event, it would be here before the second.
  assert.equal(await atAuthor.next(), 'for all');
  assert.deepEqual([await atReader.next(), await atReader.next()], ['for others', 'for all']);
});

test('every subscriber receives the subscription count', async (stage) => {
  const { server } = await stage.set({ app: { subscription_count: true } });
  const [first, second] = [stage.pusher(server), stage.pusher(server)];
  const counts = inbox('a count', (data) => data.subscription_count);
  const channel = first.subscribe('news');
  channel.bind('pusher:subscription_count', counts);

  assert.equal(await counts.next(), 1);
  await subscribed(second.subscribe('news'));
  assert.equal(await counts.next(), 2);
  assert.equal(channel.subscriptionCount, 2);
  second.unsubscribe('news');
  assert.equal(await counts.next(), 1);
});

test('an encrypted event is read by those who have the key, and passes as ciphertext', async (stage) => {
  const { server, sdk, backend } = await sealed(stage);
  const pusher = stage.pusher(server, { backend, user: 'ann' });
  const [heard, raw] = [inbox('the event'), inbox('the frame')];
  const channel = await subscribed(pusher.subscribe('private-encrypted-diary'));
  channel.bind('entry', heard);
  pusher.connection.bind('message', (frame) => frame.event === 'entry' && raw(frame));

  await sdk.trigger('private-encrypted-diary', 'entry', { text: 'für dich 🔑' });

  assert.deepEqual(await heard.next(), { text: 'für dich 🔑' });
  const { data } = await raw.next();
  assert.deepEqual(Object.keys(data).toSorted(), ['ciphertext', 'nonce']);
});

test('Echo reads an encrypted channel, also the last event of an encrypted cache channel', async (stage) => {
  const { server, sdk, backend } = await sealed(stage);
  const echo = stage.echo(server, { backend, user: 'ann' });
  const [live, cached] = [inbox('the live event'), inbox('the cached event')];
  await joined(echo.encryptedPrivate('diary').listen('.entry', live));
  await sdk.trigger('private-encrypted-cache-diary', 'entry', { day: 1 });

  await sdk.trigger('private-encrypted-diary', 'entry', { day: 2 });
  echo.encryptedPrivate('cache-diary').listen('.entry', cached);

  assert.deepEqual(await live.next(), { day: 2 });
  assert.deepEqual(await cached.next(), { day: 1 });
});

/** A server whose application has a master key. */
async function sealed(stage) {
  const server = await stage.server();
  const sdk = openSdk(server, { encryptionMasterKeyBase64: Buffer.alloc(32, 'a').toString('base64') });
  return { server, sdk, backend: await stage.backend(sdk) };
}
