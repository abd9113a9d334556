//! Causes between a browser and the server: names, certificates, proxies, origins, timeouts.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
    Way,
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] = &[
    &NAME_NOT_RESOLVED,
    &CONNECTION_REFUSED,
    &ADDRESS_UNREACHABLE,
    &TLS_ON_PLAIN_PORT,
    &PLAIN_ON_TLS_PORT,
    &TLS_HANDSHAKE_FAILED,
    &CERTIFICATE_EXPIRED,
    &CERTIFICATE_NAME,
    &CERTIFICATE_UNTRUSTED,
    &CERTIFICATE_CHAIN_INCOMPLETE,
    &CERTIFICATE_UNUSABLE,
    &CERTIFICATE_EXPIRES_SOON,
    &CERTIFICATE_UNTRUSTED_BY_PHP,
    &UPGRADE_HEADERS_MISSING,
    &WEBSOCKET_ROUTE_MISSING,
    &PROXY_UPSTREAM_DOWN,
    &DOUBLE_TLS,
    &HANDSHAKE_REDIRECTED,
    &HANDSHAKE_REJECTED,
    &PROXY_NOT_TRUSTED,
    &CLIENTS_SHARE_ADDRESS,
    &PROXY_LIMITS_RATE,
    &DEVELOPMENT_APP_PUBLIC,
    &ORIGIN_REJECTED,
    &PROXY_LEADS_ELSEWHERE,
    &PING_NOT_ANSWERED,
    &PING_ANSWERED_BY_PROXY,
    &IDLE_TIMEOUT,
];

/// A cause because of which nothing is known of the later links.
const fn end(id: &'static str, link: Link, [title, why, remedy]: [&'static str; 3]) -> Cause {
    Cause { id, link, severity: Broken, title, why, remedy, stops: Some(Way::Public) }
}

pub(in crate::cli::doctor) const NAME_NOT_RESOLVED: Cause = end(
    "name_not_resolved",
    Link::Dns,
    [
        "The host that browsers connect to has no address.",
        "Browsers report ERR_NAME_NOT_RESOLVED, and the close code 1006.",
        "Add an A or AAAA record for the name, or correct the name in VITE_REVERB_HOST and build the assets.",
    ],
);

pub(in crate::cli::doctor) const CONNECTION_REFUSED: Cause = end(
    "connection_refused",
    Link::Tcp,
    [
        "Nothing accepts connections at the address that browsers connect to.",
        "Browsers report ERR_CONNECTION_REFUSED or a timeout, and the close code 1006.",
        "Start the proxy, open the port in the firewall, or correct VITE_REVERB_PORT and build the assets.",
    ],
);

pub(in crate::cli::doctor) const ADDRESS_UNREACHABLE: Cause = Cause::new(
    "address_unreachable",
    Link::Tcp,
    Doubtful,
    [
        "One of the addresses of the name does not accept connections.",
        "Browsers try another address, some after a delay. PHP and other clients may report a timeout.",
        "Have the proxy listen on that address, or remove its A or AAAA record.",
    ],
);

pub(in crate::cli::doctor) const TLS_ON_PLAIN_PORT: Cause = end(
    "tls_on_plain_port",
    Link::Tls,
    [
        "Clients use TLS, and the port is without TLS.",
        "Browsers report ERR_SSL_PROTOCOL_ERROR, and the close code 1006.",
        "Set REVERB_PORT and VITE_REVERB_PORT to the port of the proxy with TLS, usually 443, or set server.tls.cert and server.tls.key.",
    ],
);

pub(in crate::cli::doctor) const PLAIN_ON_TLS_PORT: Cause = end(
    "plain_on_tls_port",
    Link::Tls,
    [
        "Clients do not use TLS, and the port is with TLS.",
        "The port answers 400 or closes the connection, and browsers report the close code 1006.",
        "Set REVERB_SCHEME=https and VITE_REVERB_SCHEME=https, and build the assets.",
    ],
);

pub(in crate::cli::doctor) const TLS_HANDSHAKE_FAILED: Cause = end(
    "tls_handshake_failed",
    Link::Tls,
    [
        "The port speaks TLS, and rejects the handshake.",
        "Browsers report an ERR_SSL error, and the close code 1006. Usually the proxy has no certificate for the name, supports only versions before TLS 1.2, or speaks HTTP/2 only.",
        "Give the site of this name its certificate, and allow TLS 1.2, TLS 1.3 and HTTP/1.1.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_EXPIRED: Cause = end(
    "certificate_expired",
    Link::Tls,
    [
        "The certificate, or one that it depends on, is not valid today.",
        "Browsers report ERR_CERT_DATE_INVALID, and PHP reports cURL error 60.",
        "Renew it and reload the proxy, or correct the clock of this machine.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_NAME: Cause = end(
    "certificate_name",
    Link::Tls,
    [
        "The certificate is for another name.",
        "Browsers report ERR_CERT_COMMON_NAME_INVALID, and PHP reports cURL error 60.",
        "Issue a certificate for the name that clients use, or have them use a name of the certificate.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_UNTRUSTED: Cause = end(
    "certificate_untrusted",
    Link::Tls,
    [
        "The certificate is not of a certificate authority (CA) that this machine trusts.",
        "Browsers report ERR_CERT_AUTHORITY_INVALID, without a button to continue for WebSockets, and PHP reports cURL error 60.",
        "Use a certificate of a public CA, or install your CA in all clients and pass it with --ca.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_CHAIN_INCOMPLETE: Cause = end(
    "certificate_chain_incomplete",
    Link::Tls,
    [
        "The certificate of an intermediate CA is missing.",
        "Some browsers fetch it by themselves. PHP (cURL error 60), phones and other clients do not, and reject the connection.",
        "Serve the certificate together with the intermediate ones: the file is usually called fullchain.pem.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_UNUSABLE: Cause = end(
    "certificate_unusable",
    Link::Tls,
    [
        "The certificate is not one that clients accept from a server.",
        "Its purpose, its form or its signature does not allow that. Browsers report an ERR_CERT error, and PHP reports cURL error 60.",
        "Issue a certificate for servers: with the purpose serverAuth, the name in subjectAltName, and a key of today's sizes.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_EXPIRES_SOON: Cause = Cause::new(
    "certificate_expires_soon",
    Link::Tls,
    Doubtful,
    [
        "The certificate expires soon.",
        "Less than two weeks are left, or a fifth of its lifetime. Automatic renewal happens earlier, so it probably does not work.",
        "Renew it, and look at why that did not happen by itself.",
    ],
);

pub(in crate::cli::doctor) const CERTIFICATE_UNTRUSTED_BY_PHP: Cause = Cause::new(
    "certificate_untrusted_by_php",
    Link::Tls,
    Broken,
    [
        "PHP does not trust the certificate, although this machine does.",
        "php.ini names a CA file of its own. Publishes fail with cURL error 60, and browsers are not affected.",
        "Replace that file with the machine's, or with a new one, or remove the setting. Restart PHP-FPM and queue workers afterwards.",
    ],
);

pub(in crate::cli::doctor) const UPGRADE_HEADERS_MISSING: Cause = Cause::new(
    "upgrade_headers_missing",
    Link::Proxy,
    Broken,
    [
        "The proxy does not pass on the upgrade to WebSocket.",
        "The server receives an ordinary request and answers 426. Browsers report an unexpected response code, and pusher-js becomes unavailable.",
        "Have the proxy speak HTTP/1.1 to the server, and pass on the headers Upgrade and Connection.",
    ],
);

pub(in crate::cli::doctor) const WEBSOCKET_ROUTE_MISSING: Cause = Cause::new(
    "websocket_route_missing",
    Link::Proxy,
    Broken,
    [
        "Requests for /app/ do not reach the server.",
        "Another program answers the handshake. Browsers report an unexpected response code.",
        "Have the proxy pass /app/ and /apps/ to the server, with the path as it is.",
    ],
);

pub(in crate::cli::doctor) const PROXY_UPSTREAM_DOWN: Cause = Cause::new(
    "proxy_upstream_down",
    Link::Proxy,
    Broken,
    [
        "The proxy does not reach the server.",
        "It answers 502, 503 or 504 by itself, Cloudflare 520 to 526. Clients retry after 15 seconds, then after 30.",
        "Set the upstream of the proxy to the address and port that the server listens on, and let the proxy connect to it.",
    ],
);

pub(in crate::cli::doctor) const DOUBLE_TLS: Cause = Cause::new(
    "double_tls",
    Link::Proxy,
    Broken,
    [
        "The server speaks TLS, and the proxy connects to it without.",
        "The proxy decrypts TLS already. The server does not understand what it receives, and answers 400.",
        "Remove server.tls.cert and server.tls.key from the configuration, or have the proxy use https:// for its upstream.",
    ],
);

pub(in crate::cli::doctor) const HANDSHAKE_REDIRECTED: Cause = Cause::new(
    "handshake_redirected",
    Link::Proxy,
    Broken,
    [
        "The handshake is redirected.",
        "Browsers do not follow redirects of WebSockets, and report an unexpected response code.",
        "Have clients connect to the address to which the redirect leads: its host, and wss:// if it begins with https://.",
    ],
);

pub(in crate::cli::doctor) const HANDSHAKE_REJECTED: Cause = Cause::new(
    "handshake_rejected",
    Link::Proxy,
    Broken,
    [
        "The handshake is not answered with 101.",
        "Browsers report an unexpected response code, and the close code 1006.",
        "Look at the log of the program that answered.",
    ],
);

pub(in crate::cli::doctor) const PROXY_NOT_TRUSTED: Cause = Cause::new(
    "proxy_not_trusted",
    Link::Proxy,
    Broken,
    [
        "The server does not know that the client uses TLS.",
        "The app has tls_only, and the server uses X-Forwarded-Proto from listed proxies only: it closes all connections with 4000.",
        "Add the address of the proxy to server.trusted_proxies, and have the proxy set X-Forwarded-Proto.",
    ],
);

pub(in crate::cli::doctor) const CLIENTS_SHARE_ADDRESS: Cause = Cause::new(
    "clients_share_address",
    Link::Proxy,
    Broken,
    [
        "The server counts all clients under one address.",
        "It limits connections by address, and uses X-Forwarded-For from listed proxies only: all clients have the address of the proxy, and the limit of one.",
        "Add the address of the proxy to server.trusted_proxies, and have the proxy set X-Forwarded-For.",
    ],
);

pub(in crate::cli::doctor) const PROXY_LIMITS_RATE: Cause = Cause::new(
    "proxy_limits_rate",
    Link::Proxy,
    Broken,
    [
        "A proxy limits the rate of requests.",
        "It answers 429 or 503 by itself. Applications publish, and pages reconnect, many at a time.",
        "Exempt /app/ and /apps/ from the limit; Campanile has limits of its own, per address and per app.",
    ],
);

pub(in crate::cli::doctor) const DEVELOPMENT_APP_PUBLIC: Cause = Cause::new(
    "development_app_public",
    Link::Proxy,
    Broken,
    [
        "The development app is used from another host than this machine.",
        "Everybody knows its secret, so the server serves it on localhost only.",
        "Configure an app with a secret of its own: `campanile init` writes one, or set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET.",
    ],
);

pub(in crate::cli::doctor) const ORIGIN_REJECTED: Cause = Cause::new(
    "origin_rejected",
    Link::Origin,
    Broken,
    [
        "The server rejects clients of this page.",
        "The origin of the page is not among the app's allowed_origins. The server closes with 4009, and client libraries do not try again.",
        "Add the host of the page to allowed_origins; *.example.com is for all subdomains.",
    ],
);

pub(in crate::cli::doctor) const PROXY_LEADS_ELSEWHERE: Cause = Cause::new(
    "proxy_leads_elsewhere",
    Link::Key,
    Broken,
    [
        "The address leads to another server.",
        "The server on this machine accepts the key and the secret. The one behind the address does not: it closes clients with 4001, or answers publishes with 401 or 404.",
        "Set the upstream of the proxy to the address and port of this server, or use the key of the other one.",
    ],
);

pub(in crate::cli::doctor) const PING_NOT_ANSWERED: Cause = Cause::new(
    "ping_not_answered",
    Link::Ping,
    Broken,
    [
        "Pings of clients are not answered.",
        "Clients ping after a silence and reconnect if there is no answer.",
        "Look for a program between client and server that holds messages back or drops them.",
    ],
);

pub(in crate::cli::doctor) const PING_ANSWERED_BY_PROXY: Cause = Cause::new(
    "ping_answered_by_proxy",
    Link::Idle,
    Doubtful,
    [
        "A program between client and server answers pings of WebSocket by itself.",
        "A client that only sends such pings learns nothing about the server, and the server takes it for idle.",
        "Have clients send pusher:ping, as pusher-js does, or have the proxy pass WebSocket frames through.",
    ],
);

pub(in crate::cli::doctor) const IDLE_TIMEOUT: Cause = Cause::new(
    "idle_timeout",
    Link::Idle,
    Broken,
    [
        "A program between client and server cuts idle connections.",
        "Its timeout is shorter than the silence after which the server pings. Clients are cut with 1006 and reconnect, again and again, and miss events meanwhile.",
        "Raise the timeout of the proxy above connection.activity_timeout_s, or set that to half of the timeout.",
    ],
);
