//! Laravel's cached configuration: whether it has the values of `.env`.

use super::super::{causes::files::CONFIGURATION_CACHED, finding::Finding, inputs::Inputs};
use std::fs;

/// The file that `php artisan config:cache` writes. While it exists, Laravel does not read `.env`.
const CACHE: &str = "bootstrap/cache/config.php";
/// The variables of broadcasting whose values the cache has as texts.
const VARIABLES: [&str; 8] = [
    "REVERB_APP_ID",
    "REVERB_APP_KEY",
    "REVERB_APP_SECRET",
    "REVERB_HOST",
    "PUSHER_APP_ID",
    "PUSHER_APP_KEY",
    "PUSHER_APP_SECRET",
    "PUSHER_HOST",
];

/// The cached configuration, if it has other values than `.env`.
pub(in crate::cli::doctor) fn configuration_cached(inputs: &Inputs<'_>) -> Option<Finding> {
    let cache = fs::read_to_string(inputs.dir.join(CACHE)).ok()?;
    // PHP writes texts with these two characters escaped.
    let has = |value: &str| {
        let text = value.replace('\\', "\\\\").replace('\'', "\\'");
        cache.contains(&format!("'{text}'")) || cache.contains(&format!("=> {value},"))
    };
    let missing: Vec<_> = VARIABLES
        .into_iter()
        .filter(|name| inputs.variable(name).is_some_and(|value| !has(&value)))
        .collect();
    let first = missing.first()?;
    let place = inputs.place(first);
    let names = missing.join(", ");
    let finding = CONFIGURATION_CACHED
        .found(format!("{CACHE} does not have the value of {names} in {place}."));
    Some(finding.command("php artisan config:clear"))
}
