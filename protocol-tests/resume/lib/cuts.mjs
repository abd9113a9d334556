// The ways in which a line is lost. Each resolves when the line is lost; the client returns by itself.

import { within } from '../../clients/lib/waiting.mjs';
import { isAcknowledgement, isQuestion } from './frames.mjs';

/** The messages of a return: the subscriptions, their acknowledgements, and what was missed. */
const RETURN_MESSAGES = 16;

/** All cuts: `(proxy, random, { channels, holdSignature }) => promise`. */
export const CUTS = {
  /** Both sides are reset. */
  async reset(proxy) {
    proxy.reset();
  },

  /** The client's side is reset right after an acknowledgement, which the server receives. */
  resetAtAcknowledgement(proxy) {
    return at(proxy, isAcknowledgement, 1, ({ line }) => line.resetClient());
  },

  /** Both sides are reset, and once more while the client subscribes and receives what it missed. */
  async resetAtReturn(proxy, random) {
    const returning = atReturn(proxy, random, ({ line }) => line.reset());
    proxy.reset();
    await returning;
  },

  /** During the return, nothing passes to the client after the question for an acknowledgement; the answer to it arrives. */
  async resetAtFirstAnswer(proxy) {
    const old = new Set(proxy.lines);
    const isNew = ({ line }) => !old.has(line);
    const asked = at(proxy, (message) => isNew(message) && message.way === 'down' && isQuestion(message), 1, ({ line }) => line.freeze('down'));
    const answered = at(proxy, (message) => isNew(message) && message.way === 'up' && isAcknowledgement(message), 1, ({ line }) => line.resetClient());
    proxy.reset();
    await Promise.all([asked, answered]);
  },

  /** Nothing passes until the client gives up and returns; during the return, what was held back arrives. */
  async healedBlackHole(proxy, random) {
    const heal = proxy.blackHole();
    await atReturn(proxy, random, heal);
  },

  /** Nothing passes until the client gives up and returns; during the return, the old line is reset. */
  async blackHole(proxy, random) {
    const old = proxy.lines;
    proxy.blackHole();
    await atReturn(proxy, random, () => old.forEach((line) => line.reset()));
  },

  /** A return gets stuck after some of its messages; the client gives up and returns again, and meanwhile the rest of the first return arrives. */
  async lateReturn(proxy, random) {
    const stuck = atReturn(proxy, random, ({ line }) => line.freeze('both'));
    proxy.reset();
    const { line } = await stuck;
    await atReturn(proxy, random, () => line.heal());
  },

  /**
   * The application signs so slowly that the answer arrives on the line after the next, where the channel is subscribed already: the
   * client subscribes twice. The replay has been written then, and does not arrive.
   */
  async lateSignature(proxy, random, { channels, holdSignature }) {
    const channel = random.pick(channels.filter((name) => name !== 'news'));
    const held = holdSignature(channel);
    proxy.reset();
    await within(held.isAsked, 'a request for a signature');
    const acknowledged = at(proxy, ({ way, text }) => way === 'down' && isAbout(text, 'subscription_succeeded', channel), 1, ({ line }) => line.freeze('down'));
    await atReturn(proxy, { between: () => 1 }, undefined, new Set());
    proxy.reset();
    await acknowledged;
    const repeated = at(proxy, ({ way, text }) => way === 'up' && isAbout(text, 'subscribe', channel), 1, ({ line }) => line.resetClient());
    held.release();
    await repeated;
  },

  /** The server receives nothing any more, also no acknowledgements, while the client does; then both sides are reset. */
  async frozenUp(proxy, random) {
    const old = new Set(proxy.lines);
    old.forEach((line) => line.freeze('up'));
    const received = at(proxy, ({ line, way }) => way === 'down' && old.has(line), random.between(2, 10));
    // The client may give up before.
    await Promise.race([received, atReturn(proxy, { between: () => 1 }, undefined, old)]);
    old.forEach((line) => line.reset());
  },

  /** The client receives nothing any more, and closes the line itself, after its `pusher:ping`. */
  async frozenDown(proxy, random) {
    proxy.lines.forEach((line) => line.freeze('down'));
    await atReturn(proxy, random);
  },
};

/** Cuts of a line that has just been opened. */
export const SHORT_LIVED = ['resetAtReturn', 'lateSignature', 'resetAtFirstAnswer', 'lateReturn'];

function at(proxy, fits, count, act) {
  return within(proxy.at(fits, count, act), 'messages that pass the proxy');
}

/**
 * Acts at some message of the next line. The first one that counts is the first one of the client: before it, a lost line makes
 * pusher-js wait 15 s.
 */
function atReturn(proxy, random, act, old = new Set(proxy.lines)) {
  const talking = new Set();
  return at(proxy, ({ line, way }) => {
    if (old.has(line)) return false;
    if (way === 'up') talking.add(line);
    return talking.has(line);
  }, random.between(1, RETURN_MESSAGES), act);
}

function isAbout(text, event, channel) {
  return text.includes(event) && text.includes(`"${channel}"`);
}
