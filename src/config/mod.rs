//! The configuration: sources, values and their sources, validation.
//!
//! [`load`] merges four layers into one [`Config`]: the defaults, `config.toml` with the files of `apps.d`, or a
//! configuration file of soketi, the environment with its `.env` file, and the flags. The environment has three
//! families of variables: Campanile's own `CAMPANILE_*`, then Reverb's, then soketi's. The [`ConfigError`] lists
//! everything that is unknown, out of range or contradictory, one line for each with its location. [`Loaded::effective_toml`] shows the source of every value.
//!
//! All values are written to a `RawConfig`, which stores the source of each; the rules are checked
//! there, so that errors contain the source. Each setting is declared once, in `settings` or `app`:
//! type, default, rule, documentation. The struct, the checks, the docs, `config.toml` and the JSON
//! Schema are generated from these declarations (`declare`).
//!
//! This module reads neither the process environment nor a clock.

mod app;
mod app_directory;
mod app_row;
mod apps;
mod campanile;
mod changes;
mod check;
mod compat;
mod compat_variable;
mod convert;
mod declare;
mod dotenv;
mod error;
mod file;
mod files;
mod guessable;
mod json_schema;
mod key;
mod kind;
mod load;
mod other_variables;
mod php;
mod raw_config;
mod redis;
mod redis_url;
mod relations;
mod report;
mod reverb;
mod row_defaults;
mod schema;
mod secret;
mod secret_files;
mod settings;
mod soketi;

#[cfg(test)]
mod tests;
mod unsupported;
mod value_source;
mod values;
mod variables;
mod webhook_rules;
mod webhooks;

pub use app::{AppConfig, ClientEvents, HistoryConfig, HistoryReplay, WebhookConfig, WebhookEvent};
pub use app_row::{AppRow, is_app_column};
pub use changes::{ChangedApp, Changes};
pub use check::check_setting;
pub use error::ConfigError;
pub use files::Files;
pub use json_schema::json_schema;
pub use load::{Flags, Loaded, Sources, dotenv_file, laravel_variables, load};
pub use php::import_reverb;
pub use redis_url::{RedisTarget, RedisUrl, Topology};
pub use row_defaults::RowDefaults;
pub use secret::Secret;
pub use settings::{
    AppsFromConfig, Config, ConnectionConfig, ConsoleConfig, LogConfig, LogFormat, LogLevel,
    MetricsConfig, RedisConfig, ResumeAck, ServerConfig, TlsConfig, WebhooksConfig,
};
