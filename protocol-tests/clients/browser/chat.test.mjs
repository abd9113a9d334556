// The chat in `examples/chat` in a real browser, with two users.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { startFaults } from '../../resume/lib/faults.mjs';
import { annAndBob, annAndBobOf, openBrowser } from '../lib/chat.mjs';
import { test } from '../lib/stage.mjs';

const browser = await openBrowser();
after(() => browser.close());

test('two people see one another, and the one who closes the window is gone from the list', async (stage) => {
  const { ann, bob } = await annAndBob(stage, browser);

  await Promise.all([ann.sees(ann.member('Ann (you)')), bob.sees(bob.member('Bob (you)'))]);
  await Promise.all([ann.sees(ann.member('Bob')), bob.sees(bob.member('Ann'))]);
  assert.deepEqual([await ann.here.count(), await bob.here.count()], [2, 2]);

  await bob.close();
  await ann.loses(ann.member('Bob'));
  assert.equal(await ann.here.count(), 1);
});

test('messages arrive both ways, once, and as text', async (stage) => {
  const { ann, bob } = await annAndBob(stage, browser);

  await ann.say('Do you hear the <b>bells</b>? 🔔');
  await bob.sees(bob.message('Do you hear the <b>bells</b>? 🔔'));
  await bob.say('Loud and clear');
  await ann.sees(ann.message('Loud and clear'));

  for (const { messages } of [ann, bob]) assert.equal(await messages.getByRole('listitem').count(), 2);
});

test('who types is seen typing, and when the message is there, no more', async (stage) => {
  const { ann, bob } = await annAndBob(stage, browser);

  await bob.composer.pressSequentially('I am on my w');
  await ann.sees(ann.typing.getByText('Bob is typing'));
  await bob.composer.press('Enter');

  await ann.sees(ann.message('I am on my w'));
  await ann.loses(ann.typing.getByText('Bob is typing'));
});

test('who stops typing is seen typing no more, though nothing was sent', async (stage) => {
  const { ann, bob } = await annAndBob(stage, browser);

  await bob.composer.pressSequentially('Never mi');
  await ann.sees(ann.typing.getByText('Bob is typing'));

  await ann.loses(ann.typing.getByText('Bob is typing'));
});

test('a message that was read says by whom', async (stage) => {
  const { ann, bob } = await annAndBob(stage, browser);

  await ann.say('Have you read this?');

  await bob.sees(bob.message('Have you read this?'));
  await ann.sees(ann.messages.getByText('Seen by Bob'));
});

test('a message that was sent while the laptop was offline arrives, and is not fetched', async (stage) => {
  const server = await stage.server();
  const proxy = stage.closing(await startFaults(server));
  const { ann, bob } = await annAndBobOf(stage, browser, proxy);
  const fetched = [];
  bob.page.on('request', (request) => request.url().includes('/messages?after') && fetched.push(request.url()));

  await bob.goOffline(proxy);
  await ann.sees(ann.connection.getByText('Connected'));
  await ann.say('Wake up!');
  await ann.sees(ann.message('Wake up!'));
  assert.equal(await bob.message('Wake up!').count(), 0);
  await bob.comeBack();

  await bob.sees(bob.message('Wake up!'));
  assert.deepEqual(fetched, []);
  await ann.sees(ann.member('Bob'));
});

test('a room that is locked says so, and the next one opens', async (stage) => {
  const { ann } = await annAndBob(stage, browser);

  await ann.page.getByRole('button', { name: 'Belfry' }).click();
  await ann.sees(ann.notice.getByText('did not let you into this room'));
  assert.equal(await ann.composer.isDisabled(), true);
  await ann.page.getByRole('button', { name: 'Cloister' }).click();

  await ann.sees(ann.member('Ann (you)'));
  await ann.loses(ann.notice.getByText('did not let you into this room'));
  assert.equal(await ann.composer.isDisabled(), false);
});
