//! Causes in the files of an application: cached configuration, built assets, the proxy's files.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
    Way,
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] = &[
    &ADDRESS_INVALID,
    &HOST_IS_LOCAL,
    &BROWSER_KEY_DIFFERS,
    &REVERB_PHP_DIFFERS,
    &CONFIGURATION_CACHED,
    &ASSETS_OUTDATED,
    &ASSETS_USE_HOSTED_PUSHER,
    &MIXED_CONTENT,
    &PROXY_PORT_DIFFERS,
    &PROXY_CONNECTIONS_LOW,
];

pub(in crate::cli::doctor) const ADDRESS_INVALID: Cause = Cause {
    id: "address_invalid",
    link: Link::Configuration,
    severity: Broken,
    title: "A variable with the address of the server has no usable value.",
    why: "Host, port and scheme are put together to a URL, which no program can connect to.",
    remedy: "Set the host without scheme and port, the port as a number, and the scheme as http or https.",
    stops: Some(Way::Public),
};

pub(in crate::cli::doctor) const HOST_IS_LOCAL: Cause = Cause {
    id: "host_is_local",
    link: Link::Assets,
    severity: Broken,
    title: "Browsers are sent to their own machine.",
    why: "The page is public, and its address of the server is localhost: only a browser on the machine of the server connects.",
    remedy: "Set VITE_REVERB_HOST, VITE_REVERB_PORT and VITE_REVERB_SCHEME to the address of the proxy, and build the assets.",
    stops: Some(Way::Public),
};

pub(in crate::cli::doctor) const BROWSER_KEY_DIFFERS: Cause = Cause {
    id: "browser_key_differs",
    link: Link::Configuration,
    severity: Broken,
    title: "Browsers have another key than the application.",
    why: "They connect to another app, or are closed with 4001. Events of the application do not reach them.",
    remedy: "Use one key in the application and for browsers, and build the assets.",
    stops: None,
};

pub(in crate::cli::doctor) const REVERB_PHP_DIFFERS: Cause = Cause {
    id: "reverb_php_differs",
    link: Link::Configuration,
    severity: Doubtful,
    title: "config/reverb.php sets what the server does not use.",
    why: "Campanile does not execute PHP. Of that file it knows the variables, and not the values that are written in it.",
    remedy: "Write the value to .env or config.toml: `campanile import` converts the file.",
    stops: None,
};

pub(in crate::cli::doctor) const CONFIGURATION_CACHED: Cause = Cause {
    id: "configuration_cached",
    link: Link::Configuration,
    severity: Broken,
    title: "A running program uses an older configuration than the files have.",
    why: "Laravel reads .env only without a cached configuration; the server reads its files at a start and on SIGHUP.",
    remedy: "Run `php artisan config:clear`; reload or restart the server.",
    stops: None,
};

pub(in crate::cli::doctor) const ASSETS_OUTDATED: Cause = Cause {
    id: "assets_outdated",
    link: Link::Assets,
    severity: Broken,
    title: "The built assets have other values than .env.",
    why: "Vite writes the values of VITE_* into the files when they are built. Browsers use those, and not what .env says now.",
    remedy: "Run `npm run build`, and deploy public/build.",
    stops: None,
};

pub(in crate::cli::doctor) const ASSETS_USE_HOSTED_PUSHER: Cause = Cause {
    id: "assets_use_hosted_pusher",
    link: Link::Assets,
    severity: Broken,
    title: "The built assets connect to pusher.com.",
    why: "Without wsHost, pusher-js connects to hosted Pusher, which closes the connection with 4001: it has no app with this key.",
    remedy: "Set wsHost, wsPort, wssPort, forceTLS and enabledTransports of Echo, and build the assets.",
    stops: None,
};

pub(in crate::cli::doctor) const MIXED_CONTENT: Cause = Cause {
    id: "mixed_content",
    link: Link::Assets,
    severity: Broken,
    title: "The page uses https, and the address of the server does not.",
    why: "Browsers block ws:// on a page with https, and pusher-js uses wss:// there, which a port without TLS does not answer.",
    remedy: "Set REVERB_SCHEME=https and REVERB_PORT=443, have the proxy serve that address, and build the assets.",
    stops: Some(Way::Public),
};

pub(in crate::cli::doctor) const PROXY_PORT_DIFFERS: Cause = Cause {
    id: "proxy_port_differs",
    link: Link::Upstream,
    severity: Broken,
    title: "The proxy passes requests to a port on which nothing listens.",
    why: "It answers 502.",
    remedy: "Set the port of the server in the configuration of the proxy, and reload the proxy.",
    stops: None,
};

pub(in crate::cli::doctor) const PROXY_CONNECTIONS_LOW: Cause = Cause {
    id: "proxy_connections_low",
    link: Link::Upstream,
    severity: Doubtful,
    title: "nginx serves few connections at a time.",
    why: "Each client needs two of worker_connections. At the limit, nginx closes connections.",
    remedy: "Raise worker_connections and worker_rlimit_nofile.",
    stops: None,
};
