//! Apps from real databases: PostgreSQL, MariaDB and SQLite, which change, fail and come back.
//!
//! Each test has its own database server on a free port, in a folder of its own, and its own `campanile`. Servers that refuse
//! to run as root run as the user `nobody`.

mod outages;
mod rules;
mod server;
mod soketi;
mod support;

/// Runs each test with each database.
macro_rules! with_each_database {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                crate::rules::$test(&mut crate::server::Database::postgres().await).await;
            })+
        }
        mod mariadb {
            $(#[tokio::test]
            async fn $test() {
                crate::rules::$test(&mut crate::server::Database::mariadb().await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                crate::rules::$test(&mut crate::server::Database::sqlite().await).await;
            })+
        }
    };
}

with_each_database!(
    an_app_is_found_by_its_exact_key_and_id,
    columns_become_settings_and_nulls_defaults,
    changes_of_a_row_apply_as_at_a_reload,
    an_invalid_row_is_named_and_the_other_apps_are_served,
    a_reload_reads_everything_again_and_a_command_one_app,
    an_app_of_the_configuration_wins_over_the_database,
    lookups_of_one_name_share_a_query_and_an_unknown_name_is_not_asked_for_again,
);
