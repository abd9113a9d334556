// nginx with the configuration in docs/proxies.md.

import { changed, documented, ports } from './documentation.mjs';
import { IS_ROOT, PID, Proxy } from './proxy.mjs';

const PROGRAM = {
  binary: process.env.NGINX_BIN ?? '/usr/sbin/nginx',
  package: 'nginx',
  endSignal: 'SIGTERM',
  reload: (proxy) => proxy.signal('SIGHUP'),
};

const UPSTREAM = '/etc/nginx/conf.d/campanile.conf';
const SNIPPET = '/etc/nginx/snippets/campanile.conf';
const SITE = '/etc/nginx/sites-available/ws.example.com';
const PATH = 'in the server block of the application';
const NODES = 'in the upstream, in place of its server';
const LIMITS = 'in /etc/nginx/nginx.conf, in place of the lines that are there';

const SERVER = 'server 127.0.0.1:8080;';

/** The relevant part of Debian's nginx.conf other than `limits`; temporary files are in a writable directory. */
const main = (limits) => `
daemon off;
pid ${PID};
${IS_ROOT ? 'user www-data;' : ''}
worker_processes 1;
error_log error.log info;
${limits}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  include conf.d/*.conf;
  include sites-enabled/*;
}
`;

export const nginx = {
  name: 'nginx',

  /** The changes of tests to the documented configuration, by file. */
  changes: {
    none: {},
    /** Closes idle connections after five seconds. */
    shortTimeout: { [SNIPPET]: { 'proxy_read_timeout 90s': 'proxy_read_timeout 5s' } },
    /** Forwards bodies while they arrive, and therefore in chunks. */
    unbuffered: { [SNIPPET]: { 'proxy_http_version 1.1;': 'proxy_http_version 1.1; proxy_request_buffering off;' } },
    /** Omits the headers of the upgrade. */
    dropsUpgrade: {
      [SNIPPET]: {
        'proxy_set_header Upgrade $http_upgrade;': '',
        'proxy_set_header Connection $connection_upgrade;': "proxy_set_header Connection '';",
      },
    },
    /** Closes idle connections to the server after a second. */
    shortKeepalive: { [UPSTREAM]: { 'keepalive_timeout 60s': 'keepalive_timeout 1s' } },
    /** Several workers, to which the kernel gives connections at random. */
    manyWorkers: {
      'nginx.conf': { 'worker_processes 1;': 'worker_processes 8;' },
      [SITE]: { 'listen 80;': 'listen 80 reuseport;' },
    },
    /** Removes the path before it forwards requests. */
    stripsPath: { [SNIPPET]: { 'proxy_pass http://campanile;': 'proxy_pass http://campanile/;' } },
  },

  /** Starts nginx in front of one or several servers: on a separate host, or beside an application, under /ws/. */
  start(servers, { change = 'none', isBeside = false } = {}) {
    const changes = this.changes[change];
    return Proxy.start(PROGRAM, servers, ({ folder, port, tlsPort, certificate }, upstreams) => {
      const upstream = documented('nginx', UPSTREAM, {
        ...changes[UPSTREAM],
        ...(upstreams.length > 1 ? { [SERVER]: documented('nginx', NODES) } : {}),
      });
      const site = isBeside
        ? `server {\nlisten 127.0.0.1:${port};\n${documented('nginx', PATH)}}\n`
        : documented('nginx', SITE, {
          ...changes[SITE],
          'listen 80': `listen 127.0.0.1:${port}`,
          'listen 443 ssl;': `listen 127.0.0.1:${tlsPort} ssl;`,
          '/etc/ssl/example.com/fullchain.pem': certificate.certificate,
          '/etc/ssl/example.com/privkey.pem': certificate.key,
        });
      return {
        args: ['-p', folder, '-c', 'nginx.conf', '-e', 'stderr'],
        files: {
          'nginx.conf': changed(main(documented('nginx', LIMITS)), changes['nginx.conf'] ?? {}),
          'conf.d/campanile.conf': changed(upstream, ports(upstreams)),
          'snippets/campanile.conf': changed(documented('nginx', SNIPPET), changes[SNIPPET] ?? {}),
          'sites-enabled/site': site,
        },
      };
    });
  },
};
