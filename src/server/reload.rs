//! What is read again while the server runs.

use crate::tls::Tls;
use std::sync::Arc;

/// Reads again what may change without a restart: the certificate and its key.
#[derive(Clone, Debug)]
pub struct Reloader {
    tls: Option<Arc<Tls>>,
}

impl Reloader {
    pub(super) fn new(tls: Option<Arc<Tls>>) -> Self {
        Self { tls }
    }

    /// Reads everything again, each part by itself: what can't be used is logged, and what was
    /// there before stays in use. Connections are not touched.
    pub fn reload(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            None => tracing::info!("nothing to reload"),
            Some(Ok(())) => tracing::info!("certificate reloaded"),
            Some(Err(error)) => tracing::error!(%error, "certificate not reloaded"),
        }
    }
}
