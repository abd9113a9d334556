//! The bodies of the fuzz targets: they process hostile bytes and check the result. Shared by the seeded tests, which
//! run everywhere, and by the coverage-guided fuzz targets in `fuzz/`.
//!
//! Each function accepts any bytes and panics if a guarantee is violated.

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

/// A function that processes bytes.
pub(crate) type Drive = fn(&[u8]);

/// All functions by name; the fuzz targets have the same names.
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
