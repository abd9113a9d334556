// What users notice of a server: events arrive, private channels ask the application, presence channels know their members.

import assert from 'node:assert/strict';

import { joined } from '../../lib/clients.mjs';
import { Denied, memberOf } from '../../lib/backend.mjs';
import { inbox } from '../../lib/waiting.mjs';

/** The users whom `routes/channels.php` lets into the channels of an order. */
const CUSTOMERS = ['ann', 'bob'];

/** Fails unless a project's own pages and its own `config/broadcasting.php` reach each other through the running server. */
export async function broadcasts(stage, project, script) {
  assert.ok(!project.server.ended);
  const sdk = await project.sdk();
  const backend = await stage.backend(sdk, {
    authorize: ({ user, socketId, channel }) => {
      if (!CUSTOMERS.includes(user)) throw new Denied();
      return sdk.authorizeChannel(socketId, channel, channel.startsWith('presence-') ? memberOf(user) : undefined);
    },
  });
  const ann = await project.echo(script, backend, 'ann');
  const bob = await project.echo(script, backend, 'bob');
  const eve = await project.echo(script, backend, 'eve');
  await publicEvents(ann, sdk);
  await privateEvents(ann, eve, sdk);
  await presence(ann, bob);
}

async function publicEvents(ann, sdk) {
  const heard = inbox('the public event');
  await joined(ann.channel('news').listen('.headline', heard));
  await sdk.trigger('news', 'headline', { text: 'Open again' });
  assert.deepEqual(await heard.next(), { text: 'Open again' });
}

async function privateEvents(ann, eve, sdk) {
  const [heard, refused] = [inbox('the private event'), inbox('the refusal')];
  await joined(ann.private('orders.7').listen('.OrderShipped', heard));
  eve.private('orders.7').error(refused).listen('.OrderShipped', () => assert.fail('eve has no order'));
  await refused.next();
  await sdk.trigger('private-orders.7', 'OrderShipped', { order: 7 });
  assert.deepEqual(await heard.next(), { order: 7 });
}

async function presence(ann, bob) {
  const [here, joining, leaving] = [inbox('the members'), inbox('a member that joins'), inbox('a member that leaves')];
  await joined(ann.join('orders.7').here(here).joining(joining).leaving(leaving));
  assert.deepEqual(await here.next(), [{ name: 'Ann' }]);
  await joined(bob.join('orders.7'));
  assert.deepEqual(await joining.next(), { name: 'Bob' });
  bob.leave('orders.7');
  assert.deepEqual(await leaving.next(), { name: 'Bob' });
}
