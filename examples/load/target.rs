//! The server under test: its addresses, and the app that is used on it.

use crate::failure::Failure;
use campanile::signature::Signer;
use serde::{Deserialize, Serialize};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

/// A node: its address and the prefix of its routes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Url {
    /// A loopback address.
    pub(crate) address: SocketAddr,
    /// The value of the `Host` header.
    pub(crate) host: String,
    /// The path before `/app` and `/apps`; empty or `/something`.
    pub(crate) prefix: String,
}

/// A server, or a cluster of several nodes, and an app on it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    /// The nodes; connections and publishes are distributed over them in turn.
    pub(crate) urls: Vec<Url>,
    /// The id of the app, used in the HTTP API.
    pub(crate) app_id: String,
    /// The key of the app, used by clients.
    pub(crate) key: String,
    /// The secret of the app, used to sign requests and subscriptions.
    pub(crate) secret: String,
    /// Whether each connection has a token, by which the server lets it resume.
    pub(crate) resume: bool,
}

impl Target {
    /// The node for the `index`th connection or publisher.
    pub(crate) fn url(&self, index: usize) -> &Url {
        &self.urls[index % self.urls.len()]
    }

    /// A signer with the app's secret.
    pub(crate) fn signer(&self) -> Signer {
        Signer::new(&self.secret)
    }
}

impl FromStr for Url {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("--url {text}: {why}"));
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("is not of the form http://host:port"))?;
        if !matches!(scheme, "http" | "ws") {
            return Err(wrong("only http:// and ws:// are spoken"));
        }
        let (host, prefix) = match rest.split_once('/') {
            Some((host, path)) => (host, path.trim_end_matches('/')),
            None => (rest, ""),
        };
        let with_port =
            if host.rsplit(']').next().is_some_and(|tail| tail.contains(':')) { "" } else { ":80" };
        let mut addresses = format!("{host}{with_port}")
            .to_socket_addrs()
            .map_err(|error| wrong(&error.to_string()))?;
        let address = addresses
            .find(|address| address.ip().is_loopback())
            .ok_or_else(|| wrong("load is put on loopback addresses only"))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self { address, host: host.to_owned(), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_a_prefix() {
        let url: Url = "http://127.0.0.1:8080".parse().unwrap();
        assert_eq!((url.address.port(), url.prefix.as_str()), (8080, ""));
        let url: Url = "ws://127.0.0.1/a/b/".parse().unwrap();
        assert_eq!((url.address.port(), url.prefix.as_str()), (80, "/a/b"));
        let url: Url = "http://[::1]:81/".parse().unwrap();
        assert_eq!((url.address.port(), url.prefix.as_str()), (81, ""));
    }

    #[test]
    fn only_loopback_is_loaded() {
        for text in ["http://192.0.2.1:80", "https://127.0.0.1", "127.0.0.1:80"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
