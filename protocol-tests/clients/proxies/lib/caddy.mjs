// Caddy with the configuration in docs/proxies.md.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { changed, documented, ports } from './documentation.mjs';
import { Proxy } from './proxy.mjs';

const BINARY = process.env.CADDY_BIN ?? '/usr/bin/caddy';

const SNIPPET = 'in /etc/caddy/Caddyfile, before the sites';
const SITE = 'in /etc/caddy/Caddyfile';
const PATH = 'in the site of the application';
const NODES = 'in the snippet "campanile", in place of its first line';

const FIRST_LINE = 'reverse_proxy 127.0.0.1:8080 {';

const PROGRAM = {
  binary: BINARY,
  package: 'caddy',
  endSignal: 'SIGTERM',
  isUp: ({ log }) => log.includes('serving initial configuration'),
  reload: (proxy) => promisify(execFile)(BINARY, ['reload', '--config', 'Caddyfile', '--address', admin(proxy)], {
    cwd: proxy.folder,
    env: { HOME: proxy.folder },
    timeout: 10_000,
  }),
};

const admin = ({ folder }) => `unix/${join(folder, 'admin.sock')}`;

/** Ports in place of 80, 443 and 2019. */
const main = (proxy) => `
{
  admin ${admin(proxy)}
  http_port ${proxy.port}
  https_port ${proxy.tlsPort}
  default_bind 127.0.0.1
}
`;

export const caddy = {
  name: 'Caddy',
  /** It has no timeout for WebSockets. */
  hasNoTimeout: true,
  /** Version 2.6 closes WebSockets, with 1001. */
  closesOnReload: true,

  /** The changes of tests to the documented configuration, by file. */
  changes: {
    none: {},
    shortTimeout: {},
    /** Forwards bodies while they arrive, and therefore in chunks: Caddy does so by default. */
    unbuffered: {},
    /** Omits the headers of the upgrade. */
    dropsUpgrade: { [SNIPPET]: { [FIRST_LINE]: `request_header -Upgrade\n${FIRST_LINE}` } },
    /** Closes idle connections to the server after a second. */
    shortKeepalive: { [SNIPPET]: { 'keepalive 60s': 'keepalive 1s' } },
    /** Several workers: Caddy uses all cores, which count together. */
    manyWorkers: {},
    /** Removes the path before it forwards requests. */
    stripsPath: { [PATH]: { 'handle /ws/*': 'handle_path /ws/*' } },
  },

  /** Starts Caddy in front of one or several servers: on a separate host, or beside an application, under /ws/. */
  start(servers, { change = 'none', isBeside = false } = {}) {
    const changes = this.changes[change];
    return Proxy.start(PROGRAM, servers, (proxy, upstreams) => {
      const site = isBeside
        ? `http://127.0.0.1:${proxy.port} {\n${documented('caddy', PATH, changes[PATH])}respond 404\n}\n`
        : documented('caddy', SITE, {
          // In place of a certificate that Caddy would request for the name.
          'https://ws.example.com {': `https://ws.example.com {\n    tls ${proxy.certificate.certificate} ${proxy.certificate.key}`,
          'ws.example.com': '127.0.0.1',
        });
      const snippet = changed(documented('caddy', SNIPPET), {
        ...changes[SNIPPET],
        ...(upstreams.length > 1 ? { [FIRST_LINE]: documented('caddy', NODES) } : {}),
      });
      return {
        args: ['run', '--config', 'Caddyfile'],
        files: { Caddyfile: [main(proxy), changed(snippet, ports(upstreams)), site].join('\n') },
      };
    });
  },
};
