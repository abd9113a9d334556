// Client events, which Echo calls whispers.

import assert from 'node:assert/strict';

import { errorsOf, joined, settled, subscribed } from './lib/clients.mjs';
import { test } from './lib/stage.mjs';
import { inbox } from './lib/waiting.mjs';

test('a client event reaches the others, and not its sender', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const [ann, bob, eve] = await Promise.all(['ann', 'bob', 'eve'].map(async (user) => {
    const heard = inbox(`the event at ${user}`);
    const channel = await subscribed(stage.pusher(server, { backend, user }).subscribe('private-room'));
    channel.bind('client-wave', heard);
    return { channel, heard };
  }));

  ann.channel.trigger('client-wave', { hand: 'left' });

  for (const { heard } of [bob, eve]) assert.deepEqual(await heard.next(), { hand: 'left' });
  // The marker is on the same channel, so it arrives after any event that the client event caused.
  await sdk.trigger('private-room', 'client-wave', 'fence');
  assert.equal(await ann.heard.next(), 'fence');
});

test('a whisper reaches those who listen for it, with the id of its sender', async (stage) => {
  const { server, backend } = await stage.set();
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.echo(server, { backend, user }));
  const heard = inbox('the whisper', (data, metadata) => ({ data, metadata }));
  const room = await joined(ann.join('room'));
  await joined(bob.join('room').listenForWhisper('typing', heard));

  room.whisper('typing', { draft: 'Hel', user_id: 'mallory' });

  assert.deepEqual(await heard.next(), { data: { draft: 'Hel', user_id: 'mallory' }, metadata: { user_id: 'ann' } });
});

test('the error of a rejected client event reaches the listeners of its channel', async (stage) => {
  const { server, backend } = await stage.set();
  const ann = stage.pusher(server, { backend, user: 'ann' });
  const heard = inbox('the error on the connection');
  const onChannel = inbox('the error on the channel');
  const channel = await subscribed(ann.subscribe('private-room'));
  const other = await subscribed(ann.subscribe('private-other'));
  other.bind('pusher:error', () => assert.fail('not the error of that channel'));
  ann.connection.bind('error', heard);
  channel.bind('pusher:error', onChannel);

  channel.trigger(`client-${'x'.repeat(300)}`, {});

  const { code, message } = await onChannel.next();
  assert.equal(code, null);
  assert.match(message, /longer than/);
  assert.deepEqual((await heard.next()).data, { code, message });
  assert.equal(ann.connection.state, 'connected');
});

test('an event that is neither a protocol event nor a client event is rejected with an error', async (stage) => {
  const { server, backend } = await stage.set();
  const ann = stage.pusher(server, { backend, user: 'ann' });
  const heard = inbox('the error');
  await subscribed(ann.subscribe('private-room'));
  ann.connection.bind('error', heard);

  ann.send_event('my-event', {}, 'private-room');

  const { data } = await heard.next();
  assert.equal(data.code, null);
  assert.match(data.message, /my-event.*client-/);
  assert.equal(ann.connection.state, 'connected');
});

test('a whisper on a private channel names nobody', async (stage) => {
  const { server, backend } = await stage.set();
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.echo(server, { backend, user }));
  const heard = inbox('the whisper', (data, metadata) => ({ data, metadata }));
  const room = await joined(ann.private('room'));
  await joined(bob.private('room').listenForWhisper('typing', heard));

  room.whisper('typing', { draft: 'Hel' });

  assert.deepEqual(await heard.next(), { data: { draft: 'Hel' }, metadata: {} });
});

test('another tab of the sender receives the client event too', async (stage) => {
  const { server, backend } = await stage.set();
  const tabs = [0, 1].map(() => stage.pusher(server, { backend, user: 'ann' }));
  const [sender, other] = await Promise.all(tabs.map((tab) => subscribed(tab.subscribe('presence-room'))));
  const heard = inbox('the event in the other tab');
  other.bind('client-read', heard);

  sender.trigger('client-read', 'message-9');

  assert.equal(await heard.next(), 'message-9');
});

test('a flood of client events is answered with 4301, and the connection stays', async (stage) => {
  const { server, sdk, backend } = await stage.set();
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.pusher(server, { backend, user }));
  const [errors, atAnn, atBob] = [errorsOf(ann), inbox('an event for ann'), inbox('an event for bob')];
  const room = await subscribed(ann.subscribe('private-room'));
  room.bind('calm', atAnn);
  (await subscribed(bob.subscribe('private-room'))).bind('client-noise', atBob);

  for (let count = 0; count < 50; count += 1) room.trigger('client-noise', count);

  assert.equal((await errors.next()).code, 4301);
  await settled(ann);
  assert.deepEqual(new Set(errors.all.map(({ code }) => code)), new Set([4301]));
  await sdk.trigger('private-room', 'calm', 'still here');
  assert.equal(await atAnn.next(), 'still here');
  await settled(bob);
  // Each event is either delivered or rejected: ten at once, and more as time passes.
  assert.equal(atBob.all.length + errors.all.length, 50);
  assert.ok(atBob.all.length >= 10 && atBob.all.length < 50, `${atBob.all.length} delivered`);
});

test('a client event on a public channel is rejected', async (stage) => {
  const { server, sdk } = await stage.set();
  const [ann, bob] = [stage.pusher(server), stage.pusher(server)];
  const [errors, heard] = [errorsOf(ann), inbox('the event')];
  const square = await subscribed(ann.subscribe('square'));
  (await subscribed(bob.subscribe('square'))).bind('client-shout', heard);

  square.trigger('client-shout', 'hear, hear');

  assert.notEqual((await errors.next()).code, 4301);
  await sdk.trigger('square', 'client-shout', 'fence');
  assert.equal(await heard.next(), 'fence');
});

test('an app can do without client events', async (stage) => {
  const { server, sdk, backend } = await stage.set({ app: { client_events: 'none' } });
  const [ann, bob] = ['ann', 'bob'].map((user) => stage.pusher(server, { backend, user }));
  const [errors, heard] = [errorsOf(ann), inbox('the event')];
  const room = await subscribed(ann.subscribe('private-room'));
  (await subscribed(bob.subscribe('private-room'))).bind('client-wave', heard);

  room.trigger('client-wave', {});

  assert.equal((await errors.next()).code, null);
  await sdk.trigger('private-room', 'client-wave', 'fence');
  assert.equal(await heard.next(), 'fence');
});
