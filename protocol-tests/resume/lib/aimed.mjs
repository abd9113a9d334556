// Attacks on one client whose every step is chosen.

import { NodeClient } from './cut-client.mjs';
import { Channels } from './stage.mjs';

/**
 * A client misses more than `maxEvents`, and its line is cut right before the gap notice. It misses a few more, and returns.
 * Returns the violations.
 */
export async function loseGap(server, maxEvents) {
  return withClient(server, async (channels, client) => {
    const publish = (count) => channels.publishMany(count);
    await publish(3);
    const before = client.log().length;
    const isAcknowledged = ({ way, text }) => way === 'down' && text.includes('subscription_succeeded');
    const cut = client.proxy.at(isAcknowledged, 1, ({ line }) => line.reset());
    client.proxy.reset();
    await publish(maxEvents + 1);
    await cut;
    await publish(2);
    await client.isSubscribed(before, 'after the cut');
  });
}

/** Opens a witness and a client of pusher-js 8, acts, and returns the violations. */
async function withClient(server, act) {
  const channels = new Channels(server);
  const client = new NodeClient(channels, { pusher: 8 }, 1);
  try {
    await channels.open();
    await client.open();
    await act(channels, client);
    return (await client.judge(await channels.end())).violations;
  } finally {
    await client.close();
    channels.close();
  }
}
