//! What is done with hostile bytes, and what must be true of the outcome. Shared by the seeded tests, which run
//! everywhere, and by the fuzz targets in `fuzz/`, which are led by coverage.
//!
//! Each function takes any bytes and panics when a promise is broken.

mod passed_on;
mod server;
mod session;
mod settings;
mod values;

pub(crate) use passed_on::passed_on;
pub(crate) use server::{frames, http_body, http_query, http_request};
pub(crate) use session::session;
pub(crate) use settings::{config_env, config_file};
pub(crate) use values::{client_message, event_data, member, names, user};

/// Does something with bytes.
pub(crate) type Drive = fn(&[u8]);

/// All of them by their names, which are those of the fuzz targets.
pub(crate) const DRIVES: &[(&str, Drive)] = &[
    ("client_message", client_message),
    ("config_env", config_env),
    ("config_file", config_file),
    ("event_data", event_data),
    ("frames", frames),
    ("http_body", http_body),
    ("http_query", http_query),
    ("http_request", http_request),
    ("member", member),
    ("names", names),
    ("passed_on", passed_on),
    ("session", session),
    ("user", user),
];
