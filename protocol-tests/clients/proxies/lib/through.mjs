// A test that runs behind each proxy.

import { describe } from 'node:test';

import { test } from '../../lib/stage.mjs';
import { apache } from './apache.mjs';
import { nginx } from './nginx.mjs';

const KINDS = [nginx, apache];

/**
 * Defines a test that runs behind nginx and behind Apache.
 *
 * `body` receives the stage and `before(server, options)`, which starts the proxy in front of a server.
 */
export function behindEach(promise, body) {
  describe(promise, { concurrency: KINDS.length }, () => {
    for (const kind of KINDS) test(`behind ${kind.name}: ${promise}`, (stage) => behind(kind, stage, body));
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
    await body(stage, before);
  } catch (error) {
    for (const proxy of proxies) console.error(`--- ${kind.name} on ${proxy.port} said\n${proxy.log}---`);
    throw error;
  }
}
