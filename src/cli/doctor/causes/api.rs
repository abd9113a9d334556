//! Causes between the application and the server: the HTTP API, the authentication endpoint, nodes.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] = &[
    &API_ROUTE_MISSING,
    &API_REDIRECTED,
    &PUBLISH_THROUGH_CDN,
    &API_UNAVAILABLE,
    &REQUEST_CHANGED,
    &CLOCK_DIFFERS,
    &CLOCK_DRIFTS,
    &BODY_LIMIT_PROXY,
    &BODY_LIMIT_SERVER,
    &AUTH_UNREACHABLE,
    &AUTH_NEEDS_USER,
    &AUTH_FORBIDDEN,
    &AUTH_CSRF,
    &AUTH_ROUTE_MISSING,
    &AUTH_CORS,
    &AUTH_OTHER_SECRET,
    &AUTH_ANSWER_INVALID,
    &PUBLISH_REACHES_OTHER_SERVER,
    &NODES_NOT_JOINED,
    &ROSTERS_DIFFER,
];

pub(in crate::cli::doctor) const API_ROUTE_MISSING: Cause = Cause::new(
    "api_route_missing",
    Link::Api,
    Broken,
    [
        "Publishes of the application do not reach the server.",
        "Another program answers requests for /apps/, with 404 or 405, and Laravel throws a BroadcastException. Clients are not affected.",
        "Have the proxy pass /apps/ to the server as well, or publish to the server's own address.",
    ],
);

pub(in crate::cli::doctor) const API_REDIRECTED: Cause = Cause::new(
    "api_redirected",
    Link::Api,
    Broken,
    [
        "Publishes are redirected.",
        "A redirected POST becomes a GET, and is answered with 405, or it is not followed at all.",
        "Publish to the address to which the redirect leads: REVERB_SCHEME=https and REVERB_PORT=443 if it begins with https://.",
    ],
);

pub(in crate::cli::doctor) const PUBLISH_THROUGH_CDN: Cause = Cause::new(
    "publish_through_cdn",
    Link::Api,
    Broken,
    [
        "Publishes pass through a CDN, which rejects them.",
        "It takes the application for a bot and answers with a page, which Laravel shows in a BroadcastException. Browsers are not affected.",
        "Publish to the server's own address: REVERB_HOST and REVERB_PORT, with VITE_REVERB_HOST for browsers.",
    ],
);

pub(in crate::cli::doctor) const API_UNAVAILABLE: Cause = Cause::new(
    "api_unavailable",
    Link::Api,
    Broken,
    [
        "A publish was not accepted.",
        "Laravel throws a BroadcastException, and no client receives the event.",
        "Look at the log of the program that answered.",
    ],
);

pub(in crate::cli::doctor) const REQUEST_CHANGED: Cause = Cause::new(
    "request_changed",
    Link::Api,
    Broken,
    [
        "A proxy changes what is signed.",
        "The signature covers the path, the query and the body. The server accepts it directly, and answers 401 through the proxy.",
        "Have the proxy pass path, query and body on as they are.",
    ],
);

pub(in crate::cli::doctor) const CLOCK_DIFFERS: Cause = Cause::new(
    "clock_differs",
    Link::Api,
    Broken,
    [
        "The clocks of this machine and of the server differ.",
        "The server accepts signed requests for ten minutes, and answers later ones with 401.",
        "Synchronise both clocks with NTP.",
    ],
);

pub(in crate::cli::doctor) const CLOCK_DRIFTS: Cause = Cause::new(
    "clock_drifts",
    Link::Api,
    Doubtful,
    [
        "The clocks of this machine and of the server begin to differ.",
        "Signed requests are rejected when the difference has become ten minutes.",
        "Synchronise both clocks with NTP.",
    ],
);

pub(in crate::cli::doctor) const BODY_LIMIT_PROXY: Cause = Cause::new(
    "body_limit_proxy",
    Link::Api,
    Doubtful,
    [
        "The proxy rejects large publishes.",
        "It answers 413 by itself to a batch that the server would accept, and Laravel throws a BroadcastException without the server's reason.",
        "Raise the limit of the proxy above server.max_request_bytes.",
    ],
);

pub(in crate::cli::doctor) const BODY_LIMIT_SERVER: Cause = Cause::new(
    "body_limit_server",
    Link::Api,
    Doubtful,
    [
        "The server rejects large batches.",
        "A batch has ten events. Ten of the size that the app allows do not fit into a request, and are answered with 413.",
        "Raise server.max_request_bytes to more than ten times the app's max_event_bytes.",
    ],
);

pub(in crate::cli::doctor) const AUTH_UNREACHABLE: Cause = Cause::new(
    "auth_unreachable",
    Link::Auth,
    Broken,
    [
        "The authentication endpoint does not answer, or answers with an error.",
        "Private and presence channels cannot be subscribed to.",
        "Correct the address, and look at the log of the application.",
    ],
);

pub(in crate::cli::doctor) const AUTH_NEEDS_USER: Cause = Cause::new(
    "auth_needs_user",
    Link::Auth,
    Doubtful,
    [
        "The authentication endpoint rejects guests, so its signature is not checked.",
        "It answered a request without a session, as it should for private and presence channels.",
        "Pass --cookie or --header with the session of a user, and --channel with a channel of theirs.",
    ],
);

pub(in crate::cli::doctor) const AUTH_FORBIDDEN: Cause = Cause::new(
    "auth_forbidden",
    Link::Auth,
    Broken,
    [
        "The application does not let this user subscribe to the channel.",
        "It answers 401 or 403, or redirects to the login page. Clients receive pusher:subscription_error.",
        "Log in, and have the application authorize this user for the channel.",
    ],
);

pub(in crate::cli::doctor) const AUTH_CSRF: Cause = Cause::new(
    "auth_csrf",
    Link::Auth,
    Broken,
    [
        "The authentication endpoint misses the CSRF token.",
        "Laravel answers 419. Echo takes the token from the page, and the session from its cookie.",
        "Add the token to the head of the page, and let SESSION_DOMAIN cover the host of the page.",
    ],
);

pub(in crate::cli::doctor) const AUTH_ROUTE_MISSING: Cause = Cause::new(
    "auth_route_missing",
    Link::Auth,
    Broken,
    [
        "There is no authentication endpoint at this address.",
        "Clients receive pusher:subscription_error for private and presence channels.",
        "Register the route, and give the client library its address: authEndpoint of Echo, channelAuthorization.endpoint of pusher-js.",
    ],
);

pub(in crate::cli::doctor) const AUTH_CORS: Cause = Cause::new(
    "auth_cors",
    Link::Auth,
    Broken,
    [
        "Pages of this origin may not use the authentication endpoint.",
        "The endpoint has another origin than the page, and does not allow the page's. Browsers send no request.",
        "Allow the origin, the headers and credentials in the answers to OPTIONS and POST: config/cors.php of Laravel.",
    ],
);

pub(in crate::cli::doctor) const AUTH_OTHER_SECRET: Cause = Cause::new(
    "auth_other_secret",
    Link::Auth,
    Broken,
    [
        "The application signs subscriptions for another app.",
        "The server compares the signature with its own app's secret, and answers with an error 4009.",
        "Use the same key and secret in the application and in the server, and restart the application.",
    ],
);

pub(in crate::cli::doctor) const AUTH_ANSWER_INVALID: Cause = Cause::new(
    "auth_answer_invalid",
    Link::Auth,
    Broken,
    [
        "The answer of the authentication endpoint has a signature in a form that clients do not read.",
        "Client libraries want a JSON object with auth: the key, a colon and the signature. Clients receive pusher:subscription_error.",
        "Answer with the object itself: not within a text, without a warning or a byte order mark before it, and with the key before the signature.",
    ],
);

pub(in crate::cli::doctor) const PUBLISH_REACHES_OTHER_SERVER: Cause = Cause::new(
    "publish_reaches_other_server",
    Link::Delivery,
    Broken,
    [
        "An event that the server accepted did not reach a client at the public address.",
        "Publishes and clients reach different servers, which do not share a Redis.",
        "Have the proxy pass /app/ and /apps/ to the same servers, and give all of them the same redis.url.",
    ],
);

pub(in crate::cli::doctor) const NODES_NOT_JOINED: Cause = Cause::new(
    "nodes_not_joined",
    Link::Nodes,
    Broken,
    [
        "Several servers answer, and are not one cluster.",
        "An event reaches only the clients of the server to which it was published: the others miss it without an error.",
        "Set the same redis.url on all nodes, or run one.",
    ],
);

pub(in crate::cli::doctor) const ROSTERS_DIFFER: Cause = Cause::new(
    "rosters_differ",
    Link::Nodes,
    Broken,
    [
        "The nodes are several clusters.",
        "They use different Redis servers or prefixes: lists of members differ, and events reach only some of the clients.",
        "Set the same redis.url and redis.prefix on all nodes.",
    ],
);
