//! The configuration of soketi's app managers.

use kit::{Directory, Process, Server};
use serde_json::json;

use crate::server::Database;
use crate::support::{key_of, publish_as};

/// Starts a server in a folder, with the variables of soketi.
async fn start(directory: Directory, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
    let all = [&["start", "--host", "127.0.0.1", "--port", "0"], arguments].concat();
    let process = Process::spawn_with(&all, directory.path(), variables);
    Server::from_process(process, directory).await
}

/// An app of the table is served, and has soketi's defaults: client events are off.
async fn assert_served(server: &Server) {
    assert_eq!(publish_as(server, "2").await.status, 200);
    let mut client = server.open(&format!("/app/{}?protocol=7", key_of("2"))).await;
    client.established().await;
    publish_as(server, "nobody").await.error(404);
}

#[tokio::test]
async fn variables_and_files_of_soketi_name_the_table_in_mysql() {
    let mut database = Database::mariadb().await;
    database.insert_app("2").await;
    database.execute("ALTER TABLE apps RENAME TO tenants").await;
    let port = database.server().port.to_string();
    let variables = [
        ("SOKETI_APP_MANAGER_DRIVER", "mysql"),
        ("SOKETI_APP_MANAGER_MYSQL_TABLE", "tenants"),
        ("SOKETI_DB_MYSQL_PORT", &port),
        ("SOKETI_DB_MYSQL_USERNAME", "tester"),
        ("SOKETI_DB_MYSQL_PASSWORD", "pass:word@/"),
    ];
    let server = start(Directory::new(), &[], &variables).await;
    assert_served(&server).await;
    let directory = Directory::new();
    let file = json!({
        "appManager": { "driver": "mysql", "mysql": { "table": "tenants" } },
        "database": {
            "mysql": { "port": database.server().port, "user": "tester", "password": "pass:word@/" },
        },
    });
    directory.write("config.json", &file.to_string());
    let server = start(directory, &["--config", "config.json"], &[]).await;
    assert_served(&server).await;
}

#[tokio::test]
async fn variables_of_soketi_name_the_table_in_postgres() {
    let mut database = Database::postgres().await;
    database.insert_app("2").await;
    let port = database.server().port.to_string();
    let variables = [
        ("SOKETI_APP_MANAGER_DRIVER", "postgres"),
        ("SOKETI_DB_POSTGRES_PORT", &*port),
        ("SOKETI_DB_POSTGRES_USERNAME", "tester"),
        ("SOKETI_DB_POSTGRES_PASSWORD", "pass:word@/"),
        ("SOKETI_DB_POSTGRES_DATABASE", "postgres"),
    ];
    let server = start(Directory::new(), &[], &variables).await;
    assert_served(&server).await;
}
