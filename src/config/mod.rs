//! The configuration: what was written, where, and whether it can work.
//!
//! [`load`] folds four layers into one [`Config`]: the built-in defaults, `config.toml`, the
//! environment with its `.env` file, and the flags. The environment speaks three languages: our own
//! `CAMPANILE_*`, then Reverb's, then soketi's. Whatever is unknown, out of range or contradictory
//! is in the [`ConfigError`], a line for each fault that names the place and the rule. [`Loaded::effective_toml`]
//! tells the origin of every value.
//!
//! Everything that is written goes through a `draft`, which keeps each value with its origin; the
//! rules are checked there, so that they can say whose line is wrong. The keys, their kinds and
//! their order come from the structs in `settings` and `app`: a new setting is a field there, a
//! line in `config.toml`, and a range in `values`.
//!
//! Nothing here reads the process environment or a clock. Comparing secrets is not done here
//! either.

mod app;
mod apps;
mod campanile;
mod changes;
mod compat;
mod compat_variable;
mod convert;
mod dotenv;
mod draft;
mod error;
mod file;
mod files;
mod foreign;
mod guessable;
mod key;
mod load;
mod origin;
mod php;
mod redis;
mod relations;
mod report;
mod reverb;
mod schema;
mod secret;
mod settings;
mod soketi;
#[cfg(test)]
mod tests;
mod unsupported;
mod values;
mod variables;
mod webhooks;

pub use app::{AppConfig, ClientEvents, WebhookConfig, WebhookEvent};
pub use changes::{ChangedApp, Changes};
pub use error::ConfigError;
pub use files::Files;
pub use load::{Flags, Loaded, Sources, load};
pub use redis::{RedisTarget, RedisUrl, Topology};
pub use secret::Secret;
pub use settings::{
    Config, ConnectionConfig, ConsoleConfig, LogConfig, LogFormat, LogLevel, MetricsConfig,
    RedisConfig, ServerConfig, TlsConfig, WebhooksConfig,
};
