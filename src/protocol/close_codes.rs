//! What the end of a WebSocket connection means, in words for the developer of a page.
//!
//! The table covers every code that a client can see: those of RFC 6455, section 7.4, which
//! browsers and proxies make as well, and those of the Pusher protocol. [`CloseCode`] has the codes
//! that this server sends.
//!
//! [`CloseCode`]: super::CloseCode

/// The explanation of a close code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CloseExplanation {
    /// The first code that the explanation is about.
    pub first: u16,
    /// The last code that the explanation is about.
    pub last: u16,
    /// The beginning of the message of the close, for codes with several causes.
    pub message: Option<&'static str>,
    /// What has happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The explanation of an answer to a WebSocket handshake other than 101.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandshakeExplanation {
    /// The first status that the explanation is about.
    pub first: u16,
    /// The last status that the explanation is about.
    pub last: u16,
    /// What has happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// An explanation of one code.
const fn code(code: u16, meaning: &'static str, remedy: &'static str) -> CloseExplanation {
    CloseExplanation { first: code, last: code, message: None, meaning, remedy }
}

/// An explanation of one code with one message.
const fn message(
    code: u16,
    message: &'static str,
    meaning: &'static str,
    remedy: &'static str,
) -> CloseExplanation {
    CloseExplanation { first: code, last: code, message: Some(message), meaning, remedy }
}

/// An explanation of codes without one of their own.
const fn codes(
    [first, last]: [u16; 2],
    meaning: &'static str,
    remedy: &'static str,
) -> CloseExplanation {
    CloseExplanation { first, last, message: None, meaning, remedy }
}

const RECONNECTS: &str = "Nothing: client libraries reconnect.";
const LIMIT: &str = "Raise the limit, or find the client that needs so much.";
const PROXY: &str = "Look at the log of the proxy.";

/// The explanations. Rows with a message come before the row of the same code without one, and
/// single codes before ranges.
pub const CLOSE_EXPLANATIONS: &[CloseExplanation] = &[
    code(1000, "The client or the application closed the connection.", "Nothing."),
    code(1001, "The page was left, or a proxy is shutting down.", RECONNECTS),
    code(
        1002,
        "One side received bytes that are not WebSocket frames.",
        "Look for a proxy that changes or compresses the bytes of the connection.",
    ),
    code(
        1003,
        "One side received a kind of message that it does not accept.",
        "Send text messages only.",
    ),
    code(
        1005,
        "The connection was closed without a code.",
        "Look for the closing side: the page, or a proxy.",
    ),
    code(
        1006,
        "The connection ended without a close frame, or was never established.",
        "Run campanile doctor with --ws: the address, the certificate, a proxy or its idle timeout is the cause.",
    ),
    code(1007, "A text message was not UTF-8.", "Encode messages in UTF-8."),
    code(1008, "A proxy or firewall rejected the connection.", PROXY),
    code(
        1009,
        "A message was larger than connection.max_message_bytes.",
        "Send less in a client event, or raise connection.max_message_bytes.",
    ),
    code(
        1010,
        "The client asked for an extension that the server does not have.",
        "Use a usual client library.",
    ),
    code(1011, "A proxy or the server failed.", "Look at the logs of the server and of the proxy."),
    code(1012, "A proxy is restarting.", RECONNECTS),
    code(1013, "A proxy is overloaded.", PROXY),
    code(1014, "A proxy got an invalid answer from the server.", PROXY),
    code(
        1015,
        "The TLS handshake failed.",
        "Check the certificate: expiry, name, chain. Check that the port speaks TLS.",
    ),
    code(
        4000,
        "The app accepts only connections over TLS.",
        "Connect with wss://, or unset tls_only of the app.",
    ),
    code(
        4001,
        "No app of the server has this key.",
        "Compare the key of the page with the key of the server. After a change, build the assets again.",
    ),
    code(4003, "The app is disabled.", "Set enabled of the app."),
    code(4004, "The app has reached its max_connections.", LIMIT),
    code(
        4005,
        "The path has a resume token that is none.",
        "After resume-, write 16 to 64 letters, digits, _ and -, chosen anew by each page.",
    ),
    code(4006, "The parameter protocol of the URL is not a number.", "Connect with protocol=7."),
    code(
        4007,
        "The client speaks a version of the protocol before 4.",
        "Update the client library.",
    ),
    code(
        4008,
        "The URL has no parameter protocol, and strict_protocol is set.",
        "Connect with protocol=7.",
    ),
    message(
        4009,
        "Origin not allowed",
        "The origin of the page is not among allowed_origins of the app.",
        "Add the host of the page to allowed_origins, without scheme and path.",
    ),
    message(
        4009,
        "The development app",
        "The development app serves pages on this machine only, because its secret is public.",
        "Open the page on localhost, or configure an app.",
    ),
    message(
        4009,
        "Connection not authorized",
        "The client neither signed in nor subscribed to a private channel in time.",
        "Authorize the client sooner, or raise authorized_connections_timeout_s of the app.",
    ),
    message(
        4009,
        "Connection terminated",
        "The application terminated the connections of this user.",
        "Nothing.",
    ),
    code(4009, "The connection is not authorized.", "Read the message of the close."),
    message(
        4100,
        "Apps cannot be looked up",
        "The database of apps does not answer.",
        "Repair the database: the log of the server names the error.",
    ),
    message(4100, "Over capacity", "The node has its maximum of connections.", LIMIT),
    message(
        4100,
        "Too many connections from",
        "The address has its maximum of connections.",
        LIMIT,
    ),
    message(4100, "Too many new connections", "The address connects too often.", LIMIT),
    message(
        4100,
        "Client reads too slowly",
        "More than connection.max_outbox_bytes were waiting for the client.",
        "Publish less to this client, or raise connection.max_outbox_bytes.",
    ),
    message(
        4100,
        "Too many invalid messages",
        "The client sent many invalid messages, or many subscriptions with a wrong signature.",
        "Read the pusher:error events before the close: they name each message.",
    ),
    message(4100, "Too many messages", "The client exceeded its rate of messages.", LIMIT),
    message(
        4100,
        "Message not finished",
        "A message of the client was not complete in time.",
        "Look for a slow network, or raise server.request_timeout_s.",
    ),
    message(4100, "Server is shutting down", "The server is shutting down.", RECONNECTS),
    code(4100, "The server cannot serve the client now.", RECONNECTS),
    message(
        4200,
        "Please reconnect",
        "The server is restarting, and another one serves the client.",
        RECONNECTS,
    ),
    message(
        4200,
        "Events may have been missed",
        "The node was disconnected from Redis, so the client may have missed events.",
        "Repair the connection to Redis if this repeats.",
    ),
    message(
        4200,
        "Reconnect requested",
        "The application asked the connections of this user to reconnect.",
        RECONNECTS,
    ),
    code(4200, "The server asks the client to reconnect at once.", RECONNECTS),
    code(
        4201,
        "The client did not answer a ping in time.",
        "Nothing if the device slept or lost its network. If all clients do so, a proxy drops messages.",
    ),
    codes(
        [4000, 4099],
        "The server rejected the connection.",
        "Read the message of the close: a repetition would fail too.",
    ),
    codes([4100, 4199], "The server cannot serve the client now.", RECONNECTS),
    codes([4200, 4299], "The server asks the client to reconnect at once.", RECONNECTS),
    codes(
        [4300, 4999],
        "The other side is not a server of the Pusher protocol.",
        "Check the address.",
    ),
];

const fn status(
    [first, last]: [u16; 2],
    meaning: &'static str,
    remedy: &'static str,
) -> HandshakeExplanation {
    HandshakeExplanation { first, last, meaning, remedy }
}

/// The explanations of handshakes that were answered without 101. Single statuses come before
/// ranges.
pub const HANDSHAKE_EXPLANATIONS: &[HandshakeExplanation] = &[
    status(
        [200, 299],
        "A web page answered: the request did not reach the server, or a proxy removed the header Upgrade.",
        "Have the proxy pass /app/ to the server, with Upgrade and Connection.",
    ),
    status(
        [300, 399],
        "The request was redirected, which WebSocket clients do not follow.",
        "Connect to the address that it is redirected to, usually with wss://.",
    ),
    status(
        [400, 400],
        "The request arrived without a part of the handshake, or plain HTTP was sent to a TLS port.",
        "Have the proxy pass Upgrade, Connection and Sec-WebSocket-* over HTTP/1.1.",
    ),
    status(
        [401, 401],
        "A proxy asks for a password.",
        "Exempt /app/ from the authentication of the proxy.",
    ),
    status(
        [403, 403],
        "A proxy or firewall rejected the request, or the development app rejected its Host.",
        "Allow /app/ in the proxy or firewall.",
    ),
    status(
        [404, 404],
        "The request reached another program, or the path has a wrong prefix.",
        "Have the proxy pass /app/ to the server, and compare wsPath with server.path.",
    ),
    status(
        [405, 405],
        "The request reached another program.",
        "Have the proxy pass /app/ to the server.",
    ),
    status(
        [426, 426],
        "The request reached the server without the header Upgrade.",
        "Have the proxy pass Upgrade and Connection over HTTP/1.1.",
    ),
    status([429, 429], "A proxy limits the rate of requests.", "Exempt /app/ from the limit."),
    status(
        [502, 502],
        "The proxy has no connection to the server.",
        "Start the server, and compare its port with the upstream of the proxy.",
    ),
    status(
        [503, 503],
        "The server or a proxy is overloaded, or is starting.",
        "Try again, and look at /ready.",
    ),
    status(
        [504, 504],
        "The server did not answer the proxy in time.",
        "Compare the upstream of the proxy with the address of the server.",
    ),
    status(
        [400, 499],
        "A proxy or another program rejected the request.",
        "Have the proxy pass /app/ to the server.",
    ),
    status([500, 599], "A proxy or another program failed.", "Look at the log of the proxy."),
];

/// The explanation of a close code, with the message that came with it.
#[must_use]
pub fn explain_close(code: u16, message: &str) -> Option<&'static CloseExplanation> {
    CLOSE_EXPLANATIONS.iter().find(|row| {
        (row.first..=row.last).contains(&code)
            && row.message.is_none_or(|beginning| message.starts_with(beginning))
    })
}

/// The explanation of a status other than 101 that answers a WebSocket handshake.
#[must_use]
pub fn explain_handshake(status: u16) -> Option<&'static HandshakeExplanation> {
    HANDSHAKE_EXPLANATIONS.iter().find(|row| (row.first..=row.last).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CloseCode, VersionError};
    use std::fmt::Write as _;

    fn all_codes() -> Vec<CloseCode> {
        use CloseCode::*;
        vec![
            NotWebSocket,
            NotUtf8,
            MessageTooBig { max: 1 },
            TlsOnly,
            AppNotFound { key: "k".into() },
            AppDisabled,
            OverQuota,
            Version(VersionError::Malformed),
            Version(VersionError::Unsupported),
            Version(VersionError::Missing),
            OriginNotAllowed,
            DevelopmentOnly,
            NotAuthorizedInTime,
            Terminated,
            AppsUnavailable,
            OverCapacity,
            AddressOverCapacity,
            AddressTooFast,
            SlowConsumer,
            TooManyErrors,
            TooManyMessages,
            MessageTimeout,
            ShuttingDown,
            Draining,
            EventsMissed,
            ReconnectRequested,
            PongTimeout,
        ]
    }

    #[test]
    fn each_close_of_this_server_has_an_explanation_of_its_own() {
        let mut explained: Vec<&CloseExplanation> = Vec::new();
        for code in all_codes() {
            let found = explain_close(code.number(), &code.to_string()).unwrap();
            assert_eq!((found.first, found.last), (code.number(), code.number()), "{code:?}");
            assert!(!explained.contains(&found), "{code:?}: {found:?} is that of another close");
            explained.push(found);
        }
    }

    #[test]
    fn every_code_and_status_that_clients_can_see_is_explained() {
        for code in (1000..=1003).chain(1005..=1015).chain(4000..=4999) {
            assert!(explain_close(code, "").is_some(), "{code}");
        }
        for status in (200..=599).filter(|status| *status != 101) {
            assert!(explain_handshake(status).is_some(), "{status}");
        }
        assert_eq!(explain_close(999, ""), None);
        assert_eq!(
            explain_close(4150, "").unwrap().meaning,
            "The server cannot serve the client now."
        );
        assert_eq!(explain_handshake(404).unwrap().first, 404);
        assert_eq!(explain_handshake(418).unwrap().first, 400);
    }

    fn numbers(first: u16, last: u16) -> String {
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    }

    #[test]
    fn the_page_about_the_doctor_has_the_tables() {
        let mut tables =
            String::from("| code | message | meaning | what to do |\n|---|---|---|---|\n");
        for row in CLOSE_EXPLANATIONS {
            let message = row.message.map(|text| format!(" `{text}…`")).unwrap_or_default();
            let numbers = numbers(row.first, row.last);
            writeln!(tables, "| {numbers} |{message} | {} | {} |", row.meaning, row.remedy)
                .unwrap();
        }
        let page = include_str!("../../docs/doctor.md");
        assert!(page.contains(&tables), "docs/doctor.md must have this table:\n{tables}");
        let mut table = String::from("| status | meaning | what to do |\n|---|---|---|\n");
        for row in HANDSHAKE_EXPLANATIONS {
            writeln!(
                table,
                "| {} | {} | {} |",
                numbers(row.first, row.last),
                row.meaning,
                row.remedy
            )
            .unwrap();
        }
        assert!(page.contains(&table), "docs/doctor.md must have this table:\n{table}");
    }
}
