// nginx with the configuration in docs/proxies.md.

import { changed, documented } from './documentation.mjs';
import { IS_ROOT, PID, Proxy } from './proxy.mjs';

const BINARY = process.env.NGINX_BIN ?? '/usr/sbin/nginx';

const UPSTREAM = '/etc/nginx/conf.d/campanile.conf';
const SNIPPET = '/etc/nginx/snippets/campanile.conf';
const SITE = '/etc/nginx/sites-available/ws.example.com';
const PATH = 'in the server block of the application';
const LIMITS = 'in /etc/nginx/nginx.conf, in place of the lines that are there';

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
    impatient: { [SNIPPET]: { 'proxy_read_timeout 90s': 'proxy_read_timeout 5s' } },
    /** Forwards bodies while they arrive, and therefore in chunks. */
    streaming: { [SNIPPET]: { 'proxy_http_version 1.1;': 'proxy_http_version 1.1; proxy_request_buffering off;' } },
    /** Omits the headers of the upgrade. */
    stripping: {
      [SNIPPET]: {
        'proxy_set_header Upgrade $http_upgrade;': '',
        'proxy_set_header Connection $connection_upgrade;': "proxy_set_header Connection '';",
      },
    },
    /** Removes the path before it forwards requests. */
    unprefixing: { [SNIPPET]: { 'proxy_pass http://campanile;': 'proxy_pass http://campanile/;' } },
  },

  /** Starts nginx in front of one or several servers: on a separate host, or beside an application, under /ws/. */
  start(servers, { change = 'none', isBeside = false } = {}) {
    const changes = this.changes[change];
    const upstream = [servers].flat().map(({ port }) => `server 127.0.0.1:${port};`).join(' ');
    return Proxy.start(BINARY, 'SIGTERM', ({ folder, port, tlsPort, certificate }) => {
      const site = isBeside
        ? `server {\nlisten 127.0.0.1:${port};\n${documented('nginx', PATH)}}\n`
        : documented('nginx', SITE, {
          'listen 80;': `listen 127.0.0.1:${port};`,
          'listen 443 ssl;': `listen 127.0.0.1:${tlsPort} ssl;`,
          '/etc/ssl/example.com/fullchain.pem': certificate.certificate,
          '/etc/ssl/example.com/privkey.pem': certificate.key,
        });
      return {
        args: ['-p', folder, '-c', 'nginx.conf', '-e', 'stderr'],
        files: {
          'nginx.conf': main(documented('nginx', LIMITS)),
          'conf.d/campanile.conf': documented('nginx', UPSTREAM, { 'server 127.0.0.1:8080;': upstream }),
          'snippets/campanile.conf': changed(documented('nginx', SNIPPET), changes[SNIPPET] ?? {}),
          'sites-enabled/site': site,
        },
      };
    });
  },
};
