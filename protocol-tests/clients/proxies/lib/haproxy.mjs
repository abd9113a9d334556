// HAProxy with the configuration in docs/proxies.md.

import { changed, documented, ports } from './documentation.mjs';
import { IS_ROOT, PID, Proxy } from './proxy.mjs';

const FRONTEND = 'in /etc/haproxy/haproxy.cfg, the frontend';
const BACKEND = 'in /etc/haproxy/haproxy.cfg, the backend';
const MAIN = '/etc/haproxy/haproxy.cfg';
const PATH = 'in the frontend of the application';
const NODES = 'in the backend, in place of its server';

const SERVER = 'server one 127.0.0.1:8080';

const PROGRAM = {
  binary: process.env.HAPROXY_BIN ?? '/usr/sbin/haproxy',
  package: 'haproxy',
  endSignal: 'SIGTERM',
  reload: (proxy) => proxy.signal('SIGUSR2'),
};

/** The relevant part of Debian's haproxy.cfg. */
const main = `
global
  log stderr format short local0 notice
  ${IS_ROOT ? 'user haproxy\n  group haproxy' : ''}

defaults
  log global
  mode http
  option httplog
  option dontlognull
  timeout connect 5000
  timeout client 50000
  timeout server 50000
`;

/** An application with the documented line in its frontend. */
const application = (port, line) => `
frontend application
  bind 127.0.0.1:${port}
  ${line}
  default_backend rest

backend rest
  http-request return status 404
`;

export const haproxy = {
  name: 'HAProxy',

  /** The changes of tests to the documented configuration, by file. */
  changes: {
    none: {},
    /** Closes idle connections after five seconds. */
    shortTimeout: { [BACKEND]: { 'timeout tunnel 90s': 'timeout tunnel 5s' } },
    /** Forwards bodies while they arrive, and therefore in chunks: HAProxy does so by default. */
    unbuffered: {},
    /** Omits the headers of the upgrade. */
    dropsUpgrade: { [BACKEND]: { 'option forwardfor': 'option forwardfor\n    http-request del-header Upgrade' } },
    /** Closes idle connections to the server after five seconds by default. */
    shortKeepalive: {},
    /** Several workers. */
    manyWorkers: { [MAIN]: { '\nglobal\n': '\nglobal\n  nbthread 8\n' } },
    /** Removes the path before it forwards requests. */
    stripsPath: { [BACKEND]: { 'option forwardfor': 'option forwardfor\n    http-request replace-path /ws(/.*) \\1' } },
  },

  /** Starts HAProxy in front of one or several servers: on a separate host, or beside an application, under /ws/. */
  start(servers, { change = 'none', isBeside = false } = {}) {
    const changes = this.changes[change];
    return Proxy.start(PROGRAM, servers, ({ port, tlsPort, certificate }, upstreams) => {
      const frontend = isBeside
        ? application(port, documented('haproxy', PATH))
        : documented('haproxy', FRONTEND, {
          'bind :80': `bind 127.0.0.1:${port}`,
          'bind :443': `bind 127.0.0.1:${tlsPort}`,
          '/etc/haproxy/certs/ws.example.com.pem': certificate.both,
        });
      const backend = changed(documented('haproxy', BACKEND), {
        ...changes[BACKEND],
        ...(upstreams.length > 1 ? { [SERVER]: documented('haproxy', NODES) } : {}),
      });
      return {
        args: ['-W', '-db', '-f', 'haproxy.cfg', '-p', PID],
        files: { 'haproxy.cfg': [changed(main, changes[MAIN] ?? {}), frontend, changed(backend, ports(upstreams))].join('\n') },
      };
    });
  },
};
