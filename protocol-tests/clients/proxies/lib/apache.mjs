// Apache with the configuration in docs/proxies.md.

import { changed, documented, documentedModules, ports } from './documentation.mjs';
import { IS_ROOT, PID, Proxy } from './proxy.mjs';

const MODULES = process.env.APACHE_MODULES ?? '/usr/lib/apache2/modules';

const SNIPPET = '/etc/apache2/campanile.conf';
const SITE = '/etc/apache2/sites-available/ws.example.com.conf';
const PATH = 'in the virtual host of the application';
const LIMITS = '/etc/apache2/mods-available/mpm_event.conf';

const PROGRAM = {
  binary: process.env.APACHE_BIN ?? '/usr/sbin/apache2',
  package: 'apache2-bin',
  // On SIGTERM, workers that wait for a client do not detect that its socket is closed, and are killed after a while.
  endSignal: 'SIGWINCH',
  reload: (proxy) => proxy.signal('SIGUSR1'),
};

/** The modules that Debian enables by default, or as dependencies. */
const USUAL_MODULES = ['mpm_event', 'authz_core', 'reqtimeout', 'setenvif', 'socache_shmcb', 'proxy'];

const modules = [...USUAL_MODULES, ...documentedModules()];

/** The relevant part of Debian's default apache2.conf. */
const main = ({ folder, port, tlsPort }) => `
ServerRoot ${folder}
ServerName localhost
DefaultRuntimeDir ${folder}
PidFile ${PID}
GracefulShutdownTimeout 2
${IS_ROOT ? 'User www-data\nGroup www-data' : ''}
ErrorLog error.log
LogLevel warn
Timeout 300
KeepAlive On
KeepAliveTimeout 5
${modules.map((name) => `LoadModule ${name}_module ${MODULES}/mod_${name}.so`).join('\n')}
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
Listen 127.0.0.1:${port}
Listen 127.0.0.1:${tlsPort}
Include limits.conf
Include sites-enabled/*.conf
`;

export const apache = {
  name: 'Apache',

  /** The changes of tests to the documented configuration, by file. */
  changes: {
    none: {},
    /** Closes idle connections after five seconds. */
    shortTimeout: {
      'apache2.conf': { 'Timeout 300': 'Timeout 5', 'body=10': 'body=1' },
      [SNIPPET]: { 'timeout=90': 'timeout=5' },
    },
    /** Forwards bodies while they arrive, and therefore in chunks: Apache does so by default. */
    unbuffered: {},
    /** Omits the headers of the upgrade. */
    dropsUpgrade: { [SNIPPET]: { 'upgrade=websocket': '' } },
    /** Removes the path before it forwards requests. */
    stripsPath: { [PATH]: { '127.0.0.1:8080/ws/': '127.0.0.1:8080/' } },
  },

  /** Starts Apache in front of `server`: on a separate host, or beside an application, under /ws/. */
  start(server, { change = 'none', isBeside = false } = {}) {
    const changes = this.changes[change];
    return Proxy.start(PROGRAM, server, (proxy, upstreams) => {
      const { folder, port, tlsPort, certificate } = proxy;
      const upstream = ports(upstreams);
      const site = isBeside
        ? `<VirtualHost *:${port}>\n${changed(documented('apache', PATH, changes[PATH]), upstream)}</VirtualHost>\n`
        : documented('apache', SITE, {
          '*:80>': `*:${port}>`,
          '*:443>': `*:${tlsPort}>`,
          '/etc/ssl/example.com/fullchain.pem': certificate.certificate,
          '/etc/ssl/example.com/privkey.pem': certificate.key,
        });
      return {
        args: ['-d', folder, '-f', 'apache2.conf', '-D', 'FOREGROUND'],
        files: {
          'apache2.conf': changed(main(proxy), changes['apache2.conf'] ?? {}),
          'limits.conf': documented('apache', LIMITS),
          'campanile.conf': changed(documented('apache', SNIPPET), { ...changes[SNIPPET], ...upstream }),
          'sites-enabled/site.conf': site,
        },
      };
    });
  },
};
