//! Causes at the authentication endpoint of the application.

use kit::{KEY, Server, Settings};

use crate::support::application::{Application, Auth, SESSION};
use crate::way::seen;
use crate::{Diagnosis, changes, doctor, served};

const CHANNEL: [&str; 2] = ["--channel", "private-orders.1"];

/// Runs the doctor for an application with one mistake, as a user who has logged in.
async fn at_application(auth: Auth, more: &[&str]) -> (Diagnosis, Application, Server) {
    let (server, directory) = served(&Settings::new()).await;
    let application = Application::start(auth).await;
    let (page, endpoint, ws) =
        (application.url(), application.auth_endpoint(), format!("ws://{}", server.address));
    let flags = ["--url", &page, "--auth-endpoint", &endpoint, "--ws", &ws, "--quick"];
    let diagnosis = doctor(&directory, &[&flags[..], more].concat()).await;
    (diagnosis, application, server)
}

#[tokio::test]
async fn nothing_is_wrong_with_an_endpoint_that_signs() {
    for channel in ["private-orders.1", "presence-room.1"] {
        let flags = ["--cookie", SESSION, "--channel", channel];
        let (diagnosis, _application, _server) = at_application(Auth::Right, &flags).await;
        diagnosis.well(&["auth"]);
    }
    let (diagnosis, ..) = at_application(Auth::Right, &["--cookie", SESSION]).await;
    diagnosis.well(&["auth"]);
}

#[tokio::test]
async fn auth_forbidden() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    let (diagnosis, ..) = at_application(Auth::Forbidden, &flags).await;
    let finding = diagnosis.only("auth_forbidden");
    assert!(changes(finding)[0].contains("callback of orders.1"), "{finding:#}");
    assert!(!diagnosis.report.to_string().contains("of-ann"), "cookies are masked");

    let flags = [&["--cookie", "laravel_session=of-no-user"][..], &CHANNEL].concat();
    let (diagnosis, ..) = at_application(Auth::RedirectsToLogin, &flags).await;
    let finding = diagnosis.only("auth_forbidden");
    assert!(seen(finding).contains("302, to /login"), "{finding:#}");

    let flags = ["--cookie", SESSION, "--channel", "presence-room.1"];
    let (diagnosis, ..) = at_application(Auth::NoMember, &flags).await;
    let finding = diagnosis.only("auth_forbidden");
    assert!(seen(finding).contains("without channel_data"), "{finding:#}");
}

#[tokio::test]
async fn a_presence_channel_is_not_joined() {
    let (server, directory) = served(&Settings::new()).await;
    let application = Application::start(Auth::Right).await;
    let (page, endpoint, ws) =
        (application.url(), application.auth_endpoint(), format!("ws://{}", server.address));
    let mut member = server.client().await;
    member.join("presence-room.1", "1").await;
    let flags = ["--url", &page, "--auth-endpoint", &endpoint, "--ws", &ws, "--quick"];
    let user = ["--cookie", SESSION, "--channel", "presence-room.1"];
    let diagnosis = doctor(&directory, &[&flags[..], &user].concat()).await;
    diagnosis.well(&["auth"]);
    member.ping_barrier().await;
}

/// An endpoint that rejects guests is no fault.
#[tokio::test]
async fn auth_needs_user() {
    for (auth, flags, said) in [
        (Auth::Right, &CHANNEL[..], "403 by PHP"),
        (Auth::Unauthorized, &[], "401 by PHP"),
        (Auth::RedirectsToLogin, &[], "302, to /login"),
    ] {
        let (diagnosis, ..) = at_application(auth, flags).await;
        let finding = diagnosis.only("auth_needs_user");
        assert_eq!(finding["severity"], "doubtful");
        assert!(seen(finding).contains(said), "{finding:#}");
        assert!(changes(finding)[0].contains("--cookie"), "{finding:#}");
    }
}

#[tokio::test]
async fn nothing_is_wrong_with_a_token_in_a_cookie() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    let (diagnosis, ..) = at_application(Auth::Sanctum, &flags).await;
    diagnosis.well(&["auth"]);
    assert!(diagnosis.link("auth")["text"].to_string().contains("X-XSRF-TOKEN"));
}

/// It needs no token, no request before that of a page of another origin, and its whole path.
#[tokio::test]
async fn nothing_is_wrong_with_an_endpoint_that_is_not_laravel() {
    let (server, directory) = served(&Settings::new()).await;
    let application = Application::start(Auth::Node).await;
    let (page, ws) = (application.url(), format!("ws://{}", server.address));
    let endpoint = format!("{page}/pusher/auth/?tenant=1");
    let flags = ["--url", &page, "--auth-endpoint", &endpoint, "--ws", &ws, "--quick"];
    let other = ["--origin", "https://app.example.com:443/"];
    for more in [&CHANNEL[..], &[&CHANNEL[..], &other].concat()] {
        doctor(&directory, &[&flags[..], more].concat()).await.well(&["auth"]);
    }
}

#[tokio::test]
async fn auth_csrf() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    let (diagnosis, ..) = at_application(Auth::NoToken, &flags).await;
    let finding = diagnosis.only("auth_csrf");
    assert!(seen(finding).contains("419"), "{finding:#}");
    assert!(changes(finding)[1].contains(r#"<meta name="csrf-token""#), "{finding:#}");
}

#[tokio::test]
async fn auth_route_missing() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    for (auth, said) in [(Auth::NoRoute, "404 by Laravel"), (Auth::Page, "without a signature")] {
        let (diagnosis, ..) = at_application(auth, &flags).await;
        let finding = diagnosis.only("auth_route_missing");
        assert!(seen(finding).contains(said), "{finding:#}");
    }
}

#[tokio::test]
async fn auth_cors() {
    let other = ["--origin", "https://app.example.com", "--cookie", SESSION];
    let flags = [&other[..], &CHANNEL].concat();
    let (diagnosis, ..) = at_application(Auth::Right, &flags).await;
    let finding = diagnosis.only("auth_cors");
    assert!(seen(finding).contains("no Access-Control-Allow-Origin"), "{finding:#}");
    assert!(changes(finding)[0].contains("'broadcasting/auth'"), "{finding:#}");
    let (diagnosis, ..) = at_application(Auth::AllowsOrigin, &flags).await;
    diagnosis.well(&["auth"]);
}

#[tokio::test]
async fn auth_other_secret() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    for (auth, said) in [
        (Auth::OtherSecret, format!("signs for the key {KEY} with another secret")),
        (Auth::OtherKey, format!("signs with the key another-key, and the server expects {KEY}")),
    ] {
        let (diagnosis, ..) = at_application(auth, &flags).await;
        let finding = diagnosis.only("auth_other_secret");
        assert!(seen(finding).contains(&said), "{finding:#}");
    }
}

#[tokio::test]
async fn auth_unreachable() {
    let (server, directory) = served(&Settings::new()).await;
    let endpoint = format!("http://127.0.0.1:{}/broadcasting/auth", kit::free_port());
    let ws = format!("ws://{}", server.address);
    let flags = ["--auth-endpoint", &endpoint, "--ws", &ws, "--quick"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("auth_unreachable");
    assert!(seen(finding).contains("Connection refused"), "{finding:#}");
}

#[tokio::test]
async fn auth_answer_invalid() {
    let flags = [&["--cookie", SESSION][..], &CHANNEL].concat();
    for auth in [Auth::Warning, Auth::WithoutKey] {
        let (diagnosis, ..) = at_application(auth, &flags).await;
        diagnosis.only("auth_answer_invalid");
    }
}

/// The words of Laravel are for its applications.
#[tokio::test]
async fn remedies_for_other_applications_name_no_file_of_laravel() {
    let flags =
        [&["--cookie", SESSION, "--origin", "https://app.example.com"][..], &CHANNEL].concat();
    for (flags, cause) in [
        (&flags[..], "auth_forbidden"),
        (&[&flags[..], &["--header", "X-Tenant: 1"]].concat(), "auth_cors"),
    ] {
        let (diagnosis, ..) = at_application(Auth::NodeForbidden, flags).await;
        let finding = diagnosis.only(cause);
        let text = changes(finding).join(" ");
        for word in ["routes/", "config/", "bootstrap/", "artisan"] {
            assert!(!text.contains(word), "{finding:#}");
        }
    }
}

/// Other users of a machine see the options of its processes.
#[tokio::test]
async fn a_cookie_is_read_from_a_file() {
    let (server, directory) = served(&Settings::new()).await;
    let application = Application::start(Auth::Right).await;
    directory.write("cookie", &format!("{SESSION}\n"));
    directory.write("header", "X-Tenant: one\n");
    let (page, endpoint, ws) =
        (application.url(), application.auth_endpoint(), format!("ws://{}", server.address));
    let flags = ["--url", &page, "--auth-endpoint", &endpoint, "--ws", &ws, "--quick"];
    let files = ["--cookie", "@cookie", "--header", "@header"];
    doctor(&directory, &[&flags[..], &files, &CHANNEL].concat()).await.well(&["auth"]);
}
