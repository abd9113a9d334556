//! A database with a table of apps, in soketi's layout: PostgreSQL, MySQL, MariaDB, SQLite.
//!
//! Only reads. Every query has a deadline; values are bound, and the name of the table was checked.

mod row;

pub use row::AppRecord;

use crate::config::AppsFromConfig;
use row::{from_json, from_mysql, from_sqlite};
use sqlx::{
    ConnectOptions as _, Database, MySql, Pool, Postgres, QueryBuilder, Row as _, Sqlite,
    mysql::MySqlConnectOptions, pool::PoolOptions, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use std::{fmt, time::Duration};
use tokio::time;

/// Maximum number of rows that one value of `id` or `key` may have: databases compare texts by their
/// collations, which may take several as equal.
const ROWS_MAX: u32 = 10;
/// Maximum number of apps that one query reads again.
pub const IDS_MAX: usize = 100;

/// The column by which an app is found.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AppColumn {
    /// The id, which requests of the HTTP API name.
    Id,
    /// The key, which clients name.
    Key,
}

impl AppColumn {
    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Key => "key",
        }
    }
}

/// A table of apps. Connections are made when they are needed.
#[derive(Debug)]
pub struct AppDatabase {
    pool: AnyPool,
    /// The name of the table, quoted.
    table: String,
    timeout: Duration,
}

#[derive(Debug)]
enum AnyPool {
    Postgres(Pool<Postgres>),
    MySql(Pool<MySql>),
    Sqlite(Pool<Sqlite>),
}

/// What a URL says about the connections to a database.
#[derive(Debug)]
enum ConnectOptions {
    Postgres(PgConnectOptions),
    MySql(MySqlConnectOptions),
    Sqlite(SqliteConnectOptions),
}

/// The error of a query.
#[derive(Debug)]
pub enum DatabaseError {
    /// The database has not answered in time.
    Timeout,
    /// The database cannot be reached.
    Failed(sqlx::Error),
    /// The database has rejected the query.
    Rejected(sqlx::Error),
}

/// The URL of the database is invalid. Shows nothing of the URL, which has a password.
#[derive(Debug)]
pub struct DatabaseUrlError(sqlx::Error);

impl AppDatabase {
    /// Prepares the database of `config`. Does not connect. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The URL is invalid.
    pub fn open(config: &AppsFromConfig) -> Result<Self, DatabaseUrlError> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let pool = match ConnectOptions::parse(config.url.expose())? {
            ConnectOptions::Sqlite(options) => {
                let options = options.read_only(true).busy_timeout(timeout);
                let options = options.disable_statement_logging();
                AnyPool::Sqlite(pool_options(config, timeout).connect_lazy_with(options))
            }
            ConnectOptions::Postgres(options) => {
                let options = options.application_name("campanile").disable_statement_logging();
                AnyPool::Postgres(pool_options(config, timeout).connect_lazy_with(options))
            }
            ConnectOptions::MySql(options) => {
                let options = options.disable_statement_logging();
                AnyPool::MySql(pool_options(config, timeout).connect_lazy_with(options))
            }
        };
        let quote = if matches!(pool, AnyPool::MySql(_)) { "`" } else { "\"" };
        let parts = config.table.split('.').map(|part| format!("{quote}{part}{quote}"));
        let table = parts.collect::<Vec<_>>().join(".");
        Ok(Self { pool, table, timeout })
    }

    /// Checks the URL of `config`, if there is one.
    ///
    /// # Errors
    ///
    /// The URL is invalid.
    pub fn check_url(config: &AppsFromConfig) -> Result<(), DatabaseUrlError> {
        let url = config.url.expose();
        if url.is_empty() { Ok(()) } else { ConnectOptions::parse(url).map(|_options| ()) }
    }

    /// The rows in which `column` equals `value` for the database, which may not distinguish letter
    /// case.
    ///
    /// # Errors
    ///
    /// The database has not answered.
    pub async fn find(
        &self,
        column: AppColumn,
        value: &str,
    ) -> Result<Vec<AppRecord>, DatabaseError> {
        let values = [value.to_owned()];
        self.within_timeout(self.select(column, &values, ROWS_MAX)).await
    }

    /// The rows with these ids, at most [`IDS_MAX`], and whether there are no more of them: a table
    /// whose ids are not unique may have any number.
    ///
    /// # Errors
    ///
    /// The database has not answered.
    pub async fn read(&self, ids: &[String]) -> Result<(Vec<AppRecord>, bool), DatabaseError> {
        let limit = ROWS_MAX * u32::try_from(ids.len()).unwrap_or(1);
        let rows = self.within_timeout(self.select(AppColumn::Id, ids, limit)).await?;
        let is_complete = rows.len() < limit as usize;
        Ok((rows, is_complete))
    }

    /// Checks that the database answers and has the table.
    ///
    /// # Errors
    ///
    /// The database has not answered.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.within_timeout(self.select(AppColumn::Id, &[], 1)).await.map(|_rows| ())
    }

    async fn within_timeout<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, DatabaseError> {
        match time::timeout(self.timeout, query).await {
            Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => Err(DatabaseError::Timeout),
            Ok(Err(error @ sqlx::Error::Database(_))) => Err(DatabaseError::Rejected(error)),
            Ok(result) => result.map_err(DatabaseError::Failed),
        }
    }

    /// Statements are not kept prepared: a pooler may give each of them another connection, and the
    /// table may get further columns.
    async fn select(
        &self,
        column: AppColumn,
        values: &[String],
        rows: u32,
    ) -> Result<Vec<AppRecord>, sqlx::Error> {
        let (table, column) = (&self.table, column.name());
        match &self.pool {
            AnyPool::Postgres(pool) => {
                // The database writes any type as JSON.
                let from = format!("SELECT row_to_json(app_row)::text FROM {table} app_row");
                let mut query = query::<Postgres>(&from, &format!("\"{column}\""), values, rows);
                let found = query.build().persistent(false).fetch_all(pool).await?;
                found.iter().map(|row| Ok(from_json(row.try_get(0)?))).collect()
            }
            AnyPool::MySql(pool) => {
                let from = format!("SELECT * FROM {table}");
                let mut query = query::<MySql>(&from, &format!("`{column}`"), values, rows);
                let found = query.build().persistent(false).fetch_all(pool).await?;
                Ok(found.iter().map(from_mysql).collect())
            }
            AnyPool::Sqlite(pool) => {
                let from = format!("SELECT * FROM {table}");
                let mut query = query::<Sqlite>(&from, &format!("\"{column}\""), values, rows);
                let found = query.build().persistent(false).fetch_all(pool).await?;
                Ok(found.iter().map(from_sqlite).collect())
            }
        }
    }
}

impl ConnectOptions {
    /// Parses the URL of a database, whose scheme the configuration has checked.
    fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match scheme {
            "sqlite" => url.parse().map(Self::Sqlite),
            "postgres" | "postgresql" => url.parse().map(Self::Postgres),
            _ => url.parse().map(Self::MySql),
        }
        .map_err(DatabaseUrlError)
    }
}

/// A pool that checks a connection before each use: one more round trip, so that no lookup fails because
/// the database, or a proxy, has closed an idle connection.
fn pool_options<DB: Database>(config: &AppsFromConfig, timeout: Duration) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(config.pool_size).acquire_timeout(timeout)
}

/// A query for the rows in which `column` is one of `values`, or for any row if there are none.
fn query<DB>(from: &str, column: &str, values: &[String], rows: u32) -> QueryBuilder<DB>
where
    DB: Database,
    String: sqlx::Encode<'static, DB> + sqlx::Type<DB>,
{
    let mut query = QueryBuilder::new(from);
    if !values.is_empty() {
        query.push(" WHERE ").push(column).push(" IN (");
        let mut list = query.separated(", ");
        for value in values {
            list.push_bind(value.clone());
        }
        query.push(")");
    }
    query.push(" LIMIT ").push(rows);
    query
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer within apps_from.timeout_ms"),
            Self::Failed(error) | Self::Rejected(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DatabaseError {}

impl fmt::Display for DatabaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DatabaseUrlError {}
