//! Checks of the files that a configuration names, and of `apps_from.url`.

use crate::{
    app_database::AppDatabase,
    config::{ConfigError, Loaded},
    tls::{self, Tls},
};
use std::time::SystemTime;

/// Checks `apps_from.url`, reads the certificates and keys that `loaded` names, and reports what is wrong with them as
/// warnings or errors. Those of Redis are read at startup only.
pub(super) fn check(loaded: &mut Loaded, is_start: bool) -> Result<(), ConfigError> {
    let mut errors = Vec::new();
    match Tls::load(&loaded.config.server.tls, None) {
        Ok(tls) => {
            if let Some(warning) = tls.and_then(|tls| tls.warning(SystemTime::now())) {
                let what = format!("{}: {warning}", loaded.config.server.tls.cert);
                loaded.warn("server.tls.cert", &what);
            }
        }
        Err(error) => errors.extend(error.errors()),
    }
    let ca = &loaded.config.redis.ca;
    if is_start
        && !ca.is_empty()
        && let Err(error) = tls::check_authorities(ca)
    {
        errors.extend(error.errors());
    }
    if is_start && let Err(error) = AppDatabase::check_url(&loaded.config.apps_from) {
        errors.push(("apps_from.url", error.to_string()));
    }
    loaded.check_files(errors)
}
