//! Tests of the choice of environment, and of warnings about variables of other servers.

use super::{Setup, source, with_app};
use crate::config::{Loaded, Secret};

const APP: &str = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s3cr3t-of-reverb";

/// The port, and its source.
fn port(loaded: &Loaded) -> (u16, String) {
    (loaded.config.server.port, source(loaded, "[server]", "port"))
}

#[test]
fn a_guessed_name_is_noted_with_the_right_one() {
    for (name, meant) in [
        ("CAMPANILE_PORT", "did you mean `CAMPANILE_SERVER__PORT`?"),
        ("CAMPANILE_SERVER_PORT", "did you mean `CAMPANILE_SERVER__PORT`?"),
        ("CAMPANILE_HOST", "did you mean `CAMPANILE_SERVER__HOST`?"),
        ("CAMPANILE_PATH", "did you mean `CAMPANILE_SERVER__PATH`?"),
        ("CAMPANILE_CONFIG", "give the file with --config"),
        ("CAMPANILE_LOG", "did you mean `CAMPANILE_LOG__LEVEL`?"),
        ("CAMPANILE_LOG_LEVEL", "did you mean `CAMPANILE_LOG__LEVEL`?"),
        ("CAMPANILE_LOG_FORMAT", "did you mean `CAMPANILE_LOG__FORMAT`?"),
        ("CAMPANILE_KEY", "did you mean `CAMPANILE_APPS__0__KEY`?"),
        ("CAMPANILE_APP_KEY", "did you mean `CAMPANILE_APPS__0__KEY`?"),
        ("CAMPANILE_APP_SECRET", "did you mean `CAMPANILE_APPS__0__SECRET`?"),
        ("CAMPANILE_APPS_0_ID", "did you mean `CAMPANILE_APPS__0__ID`?"),
        ("CAMPANILE_ALLOWED_ORIGINS", "did you mean `CAMPANILE_APPS__0__ALLOWED_ORIGINS`?"),
        ("CAMPANILE_TLS_CERT", "did you mean `CAMPANILE_SERVER__TLS__CERT`?"),
        ("CAMPANILE_REDIS_URL", "did you mean `CAMPANILE_REDIS__URL`?"),
    ] {
        let warnings = with_app().env(name, "1").loaded().warnings;
        assert_eq!(
            warnings,
            [format!("environment {name} has no effect: unknown variable; {meant}")]
        );
    }
}

#[test]
fn an_unrelated_variable_is_only_noted() {
    for name in ["CAMPANILE_VERSION", "CAMPANILE_APPS", "CAMPANILE_", "CAMPANILE_SEED"] {
        let warnings = with_app().env(name, "1.2.3").loaded().warnings;
        assert_eq!(warnings, [format!("environment {name} has no effect: unknown variable")]);
    }
}

#[test]
fn variables_of_the_composer_package_are_not_noted() {
    for name in ["CAMPANILE_BINARY", "CAMPANILE_RELEASES_URL"] {
        assert_eq!(with_app().env(name, "1").loaded().warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn port_has_the_lowest_precedence() {
    let platform = || with_app().env("PORT", "5000");
    assert_eq!(port(&platform().loaded()), (5000, "environment PORT".to_owned()));
    assert_eq!(port(&platform().file("[server]\nport = 1").loaded()).0, 1);
    assert_eq!(port(&platform().env("SOKETI_PORT", "2").loaded()).0, 2);
    let mut flag = platform();
    flag.sources.flags.port = Some(3);
    assert_eq!(port(&flag.loaded()).0, 3);
    let soketi = Setup::default().env("SOKETI_DEBUG", "1").env("PORT", "5000");
    assert_eq!(port(&soketi.loaded()).0, 5000);
}

#[test]
fn a_port_of_another_program_is_not_taken() {
    let loaded = with_app().dotenv("PORT=3000").loaded();
    assert_eq!(port(&loaded), (8080, "default".to_owned()));
    assert_eq!(loaded.warnings, [""; 0]);
    for value in ["http", "0", "70000", "tcp://10.0.0.1:80"] {
        let loaded = with_app().env("PORT", value).loaded();
        assert_eq!(loaded.config.server.port, 8080);
        assert_eq!(loaded.warnings, ["environment PORT has no effect: it is not a port number"]);
    }
    assert_eq!(with_app().env("PORT", "").loaded().warnings, [""; 0]);
}

#[test]
fn the_environment_of_the_application_chooses_the_file() {
    let staging = || Setup::default().dotenv("REVERB_APP_ID=x").further_file(".env.staging", APP);
    let loaded = staging().env("APP_ENV", "staging").loaded();
    assert_eq!(source(&loaded, "[[apps]]", "key"), "environment REVERB_APP_KEY (.env.staging)");
    assert_eq!(loaded.infos[0], ".env.staging is read instead of .env because of APP_ENV");
    assert!(loaded.infos[1].ends_with(".env.staging"), "{:?}", loaded.infos);
    assert_eq!(loaded.files.paths().count(), 1);
    let mut flag = staging().env("APP_ENV", "production");
    flag.sources.env_name = Some("staging".to_owned());
    assert_eq!(flag.loaded().infos[0], ".env.staging is read instead of .env because of --env");
}

#[test]
fn without_a_file_of_its_own_an_environment_has_the_common_one() {
    for name in ["production", "", "../x"] {
        let loaded = Setup::default().dotenv(APP).env("APP_ENV", name).loaded();
        assert_eq!(source(&loaded, "[[apps]]", "key"), "environment REVERB_APP_KEY (.env)");
        assert!(loaded.infos[0].starts_with("read from "), "{:?}", loaded.infos);
    }
    // As in Laravel, `APP_ENV` in the file itself does not select another file.
    let loaded = Setup::default()
        .dotenv(&format!("APP_ENV=staging\n{APP}"))
        .further_file(".env.staging", "REVERB_APP_ID=x")
        .loaded();
    assert_eq!(source(&loaded, "[[apps]]", "key"), "environment REVERB_APP_KEY (.env)");
}

const PUSHER: &str = "PUSHER_APP_ID=7\nPUSHER_APP_KEY=k7\nPUSHER_APP_SECRET=s3cr3t-of-pusher\nPUSHER_HOST=soketi\n\
                      PUSHER_PORT=6001\nPUSHER_SCHEME=http\nPUSHER_APP_CLUSTER=mt1";

#[test]
fn pusher_variables_without_the_flag_are_noted_as_unread() {
    let loaded = Setup::default().dotenv(PUSHER).loaded();
    assert!(loaded.is_development());
    assert_eq!(loaded.warnings.len(), 1);
    let begin = "environment PUSHER_APP_ID (.env) is not read; the development app is used. Start with --from-pusher-env";
    assert!(loaded.warnings[0].starts_with(begin), "{:?}", loaded.warnings);
    // In Laravel's own `.env.example` they are empty, and many projects keep them beside Reverb's.
    assert_eq!(
        Setup::default().dotenv("PUSHER_APP_ID=\nPUSHER_APP_KEY=").loaded().warnings,
        [""; 0]
    );
    assert_eq!(Setup::default().dotenv(&format!("{PUSHER}\n{APP}")).loaded().warnings, [""; 0]);
}

#[test]
fn pusher_variables_configure_the_app_with_the_flag() {
    let asked = |text: &str| {
        let mut setup = Setup::default().dotenv(text);
        setup.sources.pusher_env = true;
        setup
    };
    let loaded = asked(PUSHER).loaded();
    let app = &loaded.config.apps[0];
    assert_eq!((app.id.as_str(), app.key.as_str()), ("7", "k7"));
    assert_eq!(app.secret, Secret::new("s3cr3t-of-pusher"));
    assert_eq!(source(&loaded, "[[apps]]", "key"), "environment PUSHER_APP_KEY (.env)");
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].ends_with("Set CAMPANILE_SERVER__PORT=6001 unless a proxy maps it"),
        "{:?}",
        loaded.warnings
    );
    assert_eq!(asked(&format!("{APP}\n{PUSHER}")).loaded().config.apps[0].id, "7");
    let sail = asked(&format!("{PUSHER}\nSOKETI_DEBUG=1")).loaded();
    assert_eq!((sail.config.server.port, sail.warnings.len()), (6001, 0));
    let error = asked("PUSHER_APP_ID=7\nPUSHER_APP_KEY=k7\nPUSHER_APP_SECRET=null").error();
    let expected =
        "environment PUSHER_APP_SECRET (.env): apps[0].secret: is required by --from-pusher-env";
    assert_eq!(error, expected);
}

#[test]
fn variables_of_further_servers_are_noted() {
    let warnings = with_app().env("LARAVEL_WEBSOCKETS_PORT", "6001").loaded().warnings;
    let expected = "environment LARAVEL_WEBSOCKETS_PORT has no effect, because it is laravel-websockets's: set \
                    CAMPANILE_SERVER__PORT";
    assert_eq!(warnings, [expected]);
    let poxa = with_app().env("POXA_APP_KEY", "k").env("ACTIVITY_TIMEOUT", "60");
    assert_eq!(poxa.loaded().warnings.len(), 2);
    assert_eq!(with_app().env("ACTIVITY_TIMEOUT", "60").loaded().warnings, [""; 0]);
    let local = with_app().env("WEBSOCKETS_REPLICATION_MODE", "local");
    assert_eq!(local.loaded().warnings, [""; 0]);
}

#[test]
fn config_reverb_php_is_reported_as_unread() {
    let php = |text: &str| Setup::default().dotenv(APP).further_file("config/reverb.php", text);
    let restricted = php(
        "<?php\nreturn ['apps' => ['apps' => [[\n'key' => env('REVERB_APP_KEY'),\n'allowed_origins' => ['a.test\\n', \"b.test\\n\"]]]]];",
    );
    let warnings = restricted.loaded().warnings;
    assert_eq!(warnings.len(), 1);
    let begin = "config/reverb.php:4: sets allowed_origins to ";
    assert!(warnings[0].starts_with(begin) && warnings[0].contains("SECURITY"), "{warnings:?}");
    assert!(!warnings[0].contains('\n'), "{warnings:?}");
    let open = php("<?php return ['apps' => ['apps' => [['key' => env('REVERB_APP_KEY'), 'allowed_origins' => ['*']]]]];").loaded();
    assert_eq!(open.warnings, [""; 0]);
    let info = "config/reverb.php is PHP and is not executed, only the variables that it names have an effect: it does not differ from the effective configuration";
    assert!(open.infos.iter().any(|known| known == info), "{:?}", open.infos);
    let asked = php(
        "<?php return ['apps' => ['apps' => [['key' => 'k', 'allowed_origins' => explode(',', env('MINE'))]]]];",
    );
    assert_eq!(asked.dotenv(&format!("{APP}\nMINE=a.test,b.test")).loaded().warnings.len(), 1);
    let large = " ".repeat(300_000);
    for bytes in ["", "<?php", "\u{0}", "<?php return", &large] {
        assert_eq!(php(bytes).loaded().warnings.len(), 1, "{bytes:?}");
    }
    // A directory instead of a file.
    let folder = with_app().further_file("config/reverb.php/x", "").loaded();
    assert!(
        folder.warnings[0].starts_with("config/reverb.php cannot be read"),
        "{:?}",
        folder.warnings
    );
}

#[test]
fn a_port_that_clients_dial_by_tls_needs_a_certificate() {
    let clients = |port: &str| with_app().env("REVERB_SCHEME", "https").env("REVERB_PORT", port);
    let warnings = clients("8080").loaded().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("environment REVERB_SCHEME is https and REVERB_PORT is 8080"),
        "{warnings:?}"
    );
    assert_eq!(clients("443").loaded().warnings, [""; 0]);
    let file = "[server.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"";
    assert_eq!(clients("8080").file(file).loaded().warnings, [""; 0]);
}

#[test]
fn config_websockets_php_is_noted_as_unread() {
    let websockets = || with_app().further_file("config/websockets.php", "<?php return [];");
    let warnings = websockets().loaded().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("config/websockets.php is PHP and is not read: "),
        "{warnings:?}"
    );
    let later = websockets().further_file("config/reverb.php", "<?php return [];");
    assert_eq!(later.loaded().warnings, [""; 0]);
}
