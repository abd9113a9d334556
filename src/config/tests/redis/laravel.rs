//! The address of Redis according to Laravel's variables.

use super::{
    SCALING, secured, sentinel, single, socket, target, with, with_app, with_db, with_tls,
};

#[test]
fn laravels_variables_say_where_redis_is_when_reverb_scales() {
    let h = || single("h", 6_379);
    for (lines, expected, from) in [
        (&[][..], single("127.0.0.1", 6_379), "REVERB_SCALING_ENABLED"),
        (&["REDIS_HOST=h", "REDIS_PASSWORD=null", "REDIS_TIMEOUT=60"], h(), "REDIS_HOST"),
        (&["REDIS_HOST=h", "REDIS_PORT=7", "REDIS_DB=2"], with_db(single("h", 7), 2), "REDIS_HOST"),
        (
            &["REDIS_PORT=tcp://10.0.0.1:6379", "REDIS_SCHEME=tls"],
            with_tls(single("127.0.0.1", 6_379)),
            "REVERB_SCALING_ENABLED",
        ),
        (
            &["REDIS_HOST=h", "REDIS_USERNAME=u", "REDIS_PASSWORD=p@/:#é w"],
            secured(h(), "u", "p@/:#é w"),
            "REDIS_HOST",
        ),
        (&["REDIS_HOST=h", "REDIS_PASSWORD=\"p\""], secured(h(), "", "p"), "REDIS_HOST"),
        (&["REDIS_HOST=tls://h"], with_tls(h()), "REDIS_HOST"),
        (&["REDIS_HOST=tcp://h", "REDIS_SCHEME=tls"], h(), "REDIS_HOST"),
        (&["REDIS_HOST=h", "REDIS_SCHEME=tls"], with_tls(h()), "REDIS_HOST"),
        (&["REDIS_HOST=::1"], single("::1", 6_379), "REDIS_HOST"),
        (
            &["REDIS_HOST=/run/redis.sock", "REDIS_PORT=null"],
            socket("/run/redis.sock"),
            "REDIS_HOST",
        ),
    ] {
        assert_eq!(
            target(with(SCALING, lines)),
            (expected, format!("environment {from}")),
            "{lines:?}"
        );
    }
}

#[test]
fn redis_url_wins_and_the_others_fill_in() {
    let others =
        ["REDIS_HOST=x", "REDIS_PORT=7", "REDIS_USERNAME=v", "REDIS_PASSWORD=w", "REDIS_DB=3"];
    let h7 = || with_db(single("h", 7), 3);
    for (url, expected) in [
        ("redis://h", secured(h7(), "v", "w")),
        ("redis://u:p@h:8/1", secured(with_db(single("h", 8), 1), "u", "p")),
        ("redis://:p@h/0", secured(with_db(h7(), 0), "", "p")),
        ("tls://h", with_tls(secured(h7(), "v", "w"))),
        ("rediss://h", with_tls(secured(h7(), "v", "w"))),
        ("tcp://u:p@h:8?database=1", secured(with_db(single("h", 8), 1), "u", "p")),
        (
            "redis+sentinel://a/main",
            with_db(secured(sentinel(&[("a", 26_379)], None), "v", "w"), 3),
        ),
    ] {
        let url = format!("REDIS_URL={url}");
        let lines: Vec<_> = others.into_iter().chain([url.as_str()]).collect();
        let expected = (expected, "environment REDIS_URL".to_owned());
        assert_eq!(target(with(SCALING, &lines)), expected, "{url}");
    }
    let setup = with(SCALING, &["REDIS_URL=redis://h?read_timeout=60&database=1"]);
    let loaded = setup.loaded();
    assert_eq!(loaded.config.redis.target(), Some(with_db(single("h", 6_379), 1)));
    let expected = "environment REDIS_URL: a parameter other than database has no effect";
    assert_eq!(loaded.warnings, [expected]);
}

#[test]
fn a_variable_of_laravel_that_cannot_be_meant_is_named() {
    let host = "must be a host without a port, or the path of a socket; TLS is tls://host";
    let port = "must have ports from 1 to 65535";
    let db = "must end with the number of a database, such as /0, or without a path";
    for (line, expected) in [
        ("REDIS_HOST=h:6379", host),
        ("REDIS_HOST=http://h", host),
        ("REDIS_HOST=tls://", host),
        ("REDIS_HOST=a b", host),
        ("REDIS_PORT=x", port),
        ("REDIS_PORT=0", port),
        ("REDIS_DB=x", db),
        ("REDIS_SCHEME=unix", "must be tcp, or tls for TLS"),
        ("REDIS_URL=tcp://h?database=x", db),
        ("REDIS_URL=tls://h/x", db),
    ] {
        let (name, _) = line.split_once('=').unwrap();
        let expected = format!("environment {name}: {expected}");
        assert_eq!(with(SCALING, &[line]).error(), expected);
    }
    let setup = with(SCALING, &["REDIS_URL=redis+cluster://a", "REDIS_DB=1"]);
    let message = "must have no database but 0, because a Redis Cluster has no other";
    assert_eq!(setup.error(), format!("environment REDIS_URL: {message}"));
    let setup = with_app().env("REVERB_SCALING_ENABLED", "maybe");
    let message = "must be true or false, or 1 or 0";
    assert_eq!(setup.error(), format!("environment REVERB_SCALING_ENABLED: {message}"));
}
