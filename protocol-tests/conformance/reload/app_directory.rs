//! Apps in the files of a folder.

use kit::{Server, Settings, quoted};

use crate::Start as _;

use super::{OTHER, client_of_other, publish_as_other};

const BROKEN: &str = "[[apps]]\nid = 4\n";

/// The file of the other app.
fn other() -> String {
    let (id, key, secret) = OTHER;
    format!("[[apps]]\nid = {id:?}\nkey = {key:?}\nsecret = {secret:?}\n")
}

fn write(server: &Server, folder: &str, text: &str) {
    std::fs::create_dir_all(server.directory.path().join(folder)).expect("a folder");
    server.directory.write(&format!("{folder}/other.toml"), text);
}

#[tokio::test]
async fn files_are_added_changed_and_removed() {
    let server = Settings::new().start().await;
    assert_eq!(publish_as_other(&server, "c").await, 404);
    write(&server, "apps.d", &other());
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains(r#"reloaded apps_added="4""#), "{report}");
    let mut client = client_of_other(&server).await;
    assert_eq!(publish_as_other(&server, "c").await, 200);
    // A broken file changes nothing.
    for broken in [BROKEN, &other()[..20], ""] {
        write(&server, "apps.d", broken);
        let report = server.reload(&Settings::new()).await;
        assert!(
            report.contains("reload rejected") && report.contains("apps.d/other.toml"),
            "{report}"
        );
        assert_eq!(publish_as_other(&server, "c").await, 200);
    }
    // The last file of a folder can't be removed; another one takes its place.
    std::fs::remove_file(server.directory.path().join("apps.d/other.toml")).unwrap();
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains("apps.d: no longer contains files"), "{report}");
    let third = other().replace(r#""4""#, r#""5""#).replace(OTHER.1, "key-of-5");
    server.directory.write("apps.d/third.toml", &third);
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains(r#"apps_added="5" apps_removed="4""#), "{report}");
    client.rejected(4003).await;
    assert_eq!(publish_as_other(&server, "c").await, 404);
}

#[tokio::test]
pub(super) async fn another_folder_is_read_at_once() {
    let server = Settings::new().start().await;
    write(&server, "tenants", &other());
    let folder = server.directory.path().join("tenants");
    let named = Settings::new().section("apps_from", "directory", quoted(folder.to_str().unwrap()));
    let report = server.reload(&named).await;
    assert!(report.contains(r#"apps_added="4" settings="apps_from.directory""#), "{report}");
    assert_eq!(publish_as_other(&server, "c").await, 200);
}
