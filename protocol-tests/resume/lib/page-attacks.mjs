// Attacks on a page of a browser: it is away, frozen or busy while its socket stays open.
//
// A browser answers WebSocket pings in a process of its own, so they do not show that the page has what was written before them.

import assert from 'node:assert/strict';

import { within } from '../../clients/lib/waiting.mjs';
import { PageClient } from './cut-client.mjs';
import { isAcknowledgement } from './frames.mjs';
import { EVENT } from './recorder.mjs';
import { Channels } from './stage.mjs';

/** Events that the page's line carries while the page does not handle them. */
const UNHANDLED = 60;
/** Bytes of which Chromium throws away what the page has not read when the line is reset: it keeps 128 KiB of them. */
const BURST_BYTES = 200 * 1024;
const BLOCK_MS = 2_000;
/** Time between two events of a publisher. */
const PAUSE_MS = 25;

/** All attacks: `(client) => promise`, for a client whose channels are published to meanwhile. */
export const PAGE_ATTACKS = {
  /** The user follows a link, and comes back with the Back button while the socket is still open. */
  async 'leaves and comes back by Back'(client) {
    await client.tab.goTo(client.site.otherPage);
    await carries(client, UNHANDLED);
    await comesBack(client);
  },

  /** As above, and the line is lost while the page is away. */
  async 'leaves, loses its line, and comes back by Back'(client) {
    await client.tab.goTo(client.site.otherPage);
    await carries(client, UNHANDLED);
    client.proxy.reset();
    await comesBack(client);
  },

  /** The page computes, while the line carries events and is reset. */
  async 'is blocked while its line is reset'(client) {
    await block(client);
    await carries(client, UNHANDLED);
    client.proxy.reset();
  },

  /** The browser freezes the tab, while the line carries events and is reset. */
  async 'is frozen while its line is reset'(client) {
    await client.tab.setFrozen(true);
    await carries(client, UNHANDLED);
    client.proxy.reset();
    await client.tab.setFrozen(false);
  },

  /** The browser freezes the tab, and thaws it. */
  async 'is frozen for a while'(client) {
    await client.tab.setFrozen(true);
    await carries(client, UNHANDLED);
    await client.tab.setFrozen(false);
  },

  /** 200 KiB arrive while the page computes; the line is reset at the first acknowledgement after them. */
  async 'gets 200 KiB and is reset at the acknowledgement'(client) {
    await block(client);
    let bytes = 0;
    const isAfterBurst = (message) => {
      if (message.way === 'down') bytes += message.text.length;
      return message.way === 'up' && BURST_BYTES < bytes && isAcknowledgement(message);
    };
    const reset = client.proxy.at(isAfterBurst, 1, ({ line }) => line.resetClient());
    await client.channels.burst(BURST_BYTES);
    await within(reset, 'an acknowledgement after the burst');
  },

  /** The browser goes offline, and nothing passes; it comes back online, and with the new connection the old line heals. */
  async 'is offline for a while'(client) {
    const heal = client.proxy.blackHole();
    const old = new Set(client.proxy.lines);
    await client.tab.setOffline(true);
    await client.channels.publishesMore(UNHANDLED);
    const returned = client.proxy.at(({ line, way }) => way === 'up' && !old.has(line), 1, heal);
    await client.tab.setOffline(false);
    await within(returned, 'a new connection');
  },

  /** Lines are cut within 150 ms of a return, at random messages. */
  'is cut again at each return': (client) => client.suffer(3, ['resetAtReturn', 'resetAtFirstAnswer', 'lateReturn']),

  /** Nothing passes until the page gives up; its last messages and its close arrive with the new connection. */
  'returns from a black hole that heals': (client) => client.suffer(2, ['healedBlackHole', 'frozenDown']),
};

/** Makes the page compute for a while. */
function block(client) {
  return client.tab.start((ms) => {
    for (const end = Date.now() + ms; Date.now() < end;);
  }, BLOCK_MS);
}

/** Waits until the page's line has carried `count` more events. */
async function carries(client, count) {
  await within(client.proxy.at(({ way, text }) => way === 'down' && text.includes(EVENT), count), `${count} events on the page's line`);
}

async function comesBack(client) {
  assert.equal(await client.tab.goBack(), 'BackForwardCacheRestore', 'the page was not kept');
}

/** Runs one attack against `server`, and returns its result and the presence changes meanwhile. */
export async function attackPage(server, browser, name, library, seed = 1) {
  const channels = new Channels(server);
  const client = new PageClient(channels, library, seed);
  try {
    await channels.open();
    await client.open(browser);
    const before = channels.witness.log.length;
    channels.publish(() => PAUSE_MS);
    await PAGE_ATTACKS[name](client);
    const result = await client.judge(await channels.end());
    const changes = channels.witness.log.slice(before).filter(({ kind }) => kind === 'added' || kind === 'removed');
    return { ...result, changes: changes.length, moves: client.entrance.moves };
  } finally {
    await client.close();
    channels.close();
  }
}
