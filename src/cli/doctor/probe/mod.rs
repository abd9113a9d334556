//! Probes: each opens connections, and returns what it saw. None of them judges.

mod certificate;
mod client;
mod http;
mod peer;
mod signed;
mod tls;

pub(super) use certificate::{CertificateProblem, check_chain, time_left};
pub(super) use client::{
    ClientEnd, ClientMessage, NotSubscribed, OpenClient, Opening, open_client,
};
pub(super) use http::{Answer, AnsweredBy, NoAnswer, answers_to_nonsense, get_with, send};
pub(super) use peer::Peer;
pub(super) use signed::{SignedAnswer, call};
pub(super) use tls::{Spoken, TlsView, look_at_tls, spoken};

use std::time::Duration;

/// How long a probe waits for one step: a connection, a handshake, the head of an answer.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(5);
