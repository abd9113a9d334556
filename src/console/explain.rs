//! Explanations, from the table that the doctor and the documentation have too.

use crate::protocol::explain_close as of_table;

/// The explanation of a close code with its message.
pub(super) fn explain_close(code: u16, message: &str) -> Option<String> {
    of_table(code, message).map(|row| match row.remedy {
        "Nothing." => row.meaning.to_owned(),
        remedy => format!("{} {remedy}", row.meaning),
    })
}

/// The message of a close frame, or the label of the reason in words if there was none.
pub(super) fn sentence_of(label: &str, message: &str) -> String {
    if message.is_empty() { label.replace('_', " ") } else { message.to_owned() }
}

/// What an operator can do about a warning of the log.
pub(super) fn explain_warning(message: &str) -> Option<&'static str> {
    WARNINGS.iter().find(|(known, _)| *known == message).map(|(_, explanation)| *explanation)
}

const WARNINGS: [(&str, &str); 5] = [
    (
        "webhook failed",
        "The endpoint did not answer with 2xx. The request is retried for five minutes: see the view of webhooks.",
    ),
    (
        "webhook events lost",
        "More events wait for webhooks than the queue holds: make the endpoint faster, or send it fewer events.",
    ),
    (
        "setting changed; restart required",
        "The running server keeps the previous value until it is restarted.",
    ),
    (
        "reload rejected; configuration unchanged",
        "The new configuration has an error, and nothing of it applies: correct it and send SIGHUP again.",
    ),
    ("panic recovered", "A bug of the server. It goes on; please report it with the lines around."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_warnings_are_explained() {
        assert!(explain_close(4001, "").unwrap().len() > 20);
        assert!(explain_close(1000, "").unwrap().ends_with("closed the connection."));
        assert_eq!(explain_close(2, ""), None);
        assert!(explain_warning("webhook failed").unwrap().contains("2xx"));
        assert_eq!(explain_warning("another"), None);
        assert_eq!(sentence_of("pong_timeout", ""), "pong timeout");
        assert_eq!(sentence_of("pong_timeout", "Pong not received"), "Pong not received");
    }
}
