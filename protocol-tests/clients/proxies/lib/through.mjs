// A test that runs behind each proxy.

import { describe } from 'node:test';

import { test } from '../../lib/stage.mjs';
import { apache } from './apache.mjs';
import { caddy } from './caddy.mjs';
import { envoy } from './envoy.mjs';
import { haproxy } from './haproxy.mjs';
import { nginx } from './nginx.mjs';

export const KINDS = [nginx, apache, caddy, haproxy, envoy];

/** The proxies that are documented in front of several nodes. */
export const BALANCERS = [nginx, caddy, haproxy, envoy];

/** Those that ask nodes for /ready. */
export const CHECKERS = [caddy, haproxy, envoy];

/** Those that hold handshakes while a server restarts, and those that hold publishes as well. Caddy 2.6 has closed the body. */
export const HOLD_CLIENTS = [caddy, haproxy, envoy];
export const HOLD_PUBLISHES = [haproxy, envoy];

/** Those that close idle connections to a server on their own. Apache does so when it has another request. */
export const CLOSE_IDLE = [nginx, caddy, haproxy, envoy];

/**
 * Defines a test that runs behind each proxy.
 *
 * `body` receives the stage, `before(server, options)`, which starts the proxy in front of a server, and the kind of the proxy.
 * `kinds` are the proxies for which the promise holds.
 */
export function behindEach(promise, body, kinds = KINDS) {
  describe(promise, { concurrency: kinds.length }, () => {
    for (const kind of kinds) test(`behind ${kind.name}: ${promise}`, (stage) => behind(kind, stage, body));
  });
}

async function behind(kind, stage, body) {
  const proxies = [];
  const before = async (server, options) => {
    const proxy = stage.closing(await kind.start(server, options));
    proxies.push(proxy);
    return proxy;
  };
  try {
    await body(stage, before, kind);
  } catch (error) {
    for (const proxy of proxies) console.error(`--- ${kind.name} on ${proxy.port} said\n${proxy.log}---`);
    throw error;
  }
}
