//! The error of an unusable webhook.

use std::fmt;

/// The error of an unusable webhook.
#[derive(Debug)]
pub enum WebhookError {
    /// The URL has no usable host. The configuration has checked that it has one.
    Host {
        /// The id of the app that has the webhook.
        app_id: String,
        /// The configured or derived name of the webhook.
        webhook: String,
    },
    /// A webhook has `https`, and the system has no root certificates.
    NoRoots(String),
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { app_id, webhook } => {
                write!(f, "webhook {webhook} of the app {app_id:?} has a URL whose host is no name")
            }
            Self::NoRoots(why) => write!(
                f,
                "webhooks with https need the system's certificate authorities, and there are none: \
                 install ca-certificates, or name a file in SSL_CERT_FILE ({why})"
            ),
        }
    }
}

impl std::error::Error for WebhookError {}
