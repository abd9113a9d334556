//! The address of Redis: the forms of `redis.url`.

mod laravel;
mod soketi;

use super::{Setup, source, with_app};
use crate::config::{RedisTarget, RedisUrl, Secret, Topology};

fn address(host: &str, port: u16) -> (String, u16) {
    (host.to_owned(), port)
}

fn single(host: &str, port: u16) -> RedisTarget {
    let topology = Topology::Single { address: address(host, port) };
    RedisTarget { topology, is_tls: false, username: None, password: None, db: 0 }
}

fn with_topology(topology: Topology) -> RedisTarget {
    RedisTarget { topology, ..single("", 1) }
}

fn sentinel(sentinels: &[(&str, u16)], password: Option<&str>) -> RedisTarget {
    let sentinels = sentinels.iter().map(|(host, port)| address(host, *port)).collect();
    let (master, password) = ("main".to_owned(), password.map(Secret::new));
    with_topology(Topology::Sentinel { sentinels, master, password })
}

fn cluster(nodes: &[(&str, u16)]) -> RedisTarget {
    let nodes = nodes.iter().map(|(host, port)| address(host, *port)).collect();
    with_topology(Topology::Cluster { nodes })
}

fn socket(path: &str) -> RedisTarget {
    with_topology(Topology::Unix { path: path.into() })
}

fn secured(target: RedisTarget, username: &str, password: &str) -> RedisTarget {
    let username = Some(username.to_owned()).filter(|name| !name.is_empty());
    RedisTarget { username, password: Some(Secret::new(password)), ..target }
}

fn with_tls(target: RedisTarget) -> RedisTarget {
    RedisTarget { is_tls: true, ..target }
}

fn with_db(target: RedisTarget, db: i64) -> RedisTarget {
    RedisTarget { db, ..target }
}

fn parsed(url: &str) -> RedisTarget {
    let url: RedisUrl = url.parse().unwrap_or_else(|message| panic!("{url} {message}"));
    url.target().cloned().expect("a target")
}

#[test]
fn each_form_of_the_url_names_its_servers() {
    let (a, b) = (("a", 1), ("b", 26_379));
    for (url, expected) in [
        ("redis://localhost", single("localhost", 6_379)),
        ("redis://localhost/", single("localhost", 6_379)),
        ("REDIS://10.0.0.1:7000/3", with_db(single("10.0.0.1", 7_000), 3)),
        ("redis://[::1]", single("::1", 6_379)),
        ("redis://[fd00::1]:7000/0", single("fd00::1", 7_000)),
        ("redis://a_b-c.d:65535/2147483647", with_db(single("a_b-c.d", 65_535), 2_147_483_647)),
        ("rediss://redis.test", with_tls(single("redis.test", 6_379))),
        ("redis+unix:///run/redis.sock", socket("/run/redis.sock")),
        ("redis+unix:///a%20b?db=2", with_db(socket("/a b"), 2)),
        ("redis+unix://u:p@/a", secured(socket("/a"), "u", "p")),
        ("redis+sentinel://a:1,b/main", sentinel(&[a, b], None)),
        ("redis+sentinel://b/main/7", with_db(sentinel(&[b], None), 7)),
        ("redis+sentinel://b/m%61in?sentinel_password=s%26s", sentinel(&[b], Some("s&s"))),
        ("redis+sentinel://b/main?sentinel_password=", sentinel(&[b], None)),
        (
            "rediss+sentinel://u:p@a:1,[::1]/main",
            with_tls(secured(sentinel(&[a, ("::1", 26_379)], None), "u", "p")),
        ),
        ("redis+cluster://a:1", cluster(&[a])),
        ("redis+cluster://a:1,c,[::2]:3/0", cluster(&[a, ("c", 6_379), ("::2", 3)])),
        ("rediss+cluster://:p@a:1", with_tls(secured(cluster(&[a]), "", "p"))),
    ] {
        assert_eq!(parsed(url), expected, "{url}");
    }
    assert_eq!("".parse(), Ok(RedisUrl::default()));
    assert_eq!(RedisUrl::default().target(), None);
}

#[test]
fn users_and_passwords_are_percent_decoded() {
    for (credentials, username, password) in [
        ("u:p", "u", "p"),
        (":p", "", "p"),
        ("u%3Ax:p%40%2F%3f%23%25", "u:x", "p@/?#%"),
        (":a:b@c", "", "a:b@c"),
        (":%C3%A9+", "", "é+"),
    ] {
        let url = format!("redis://{credentials}@h");
        assert_eq!(parsed(&url), secured(single("h", 6_379), username, password), "{url}");
    }
    assert_eq!(parsed("redis://:@h"), single("h", 6_379));
    assert_eq!(parsed("redis://@h"), single("h", 6_379));
}

const SCHEME: &str = "must begin with redis://, redis+sentinel:// or redis+cluster://, with rediss for TLS, or with redis+unix://";
const HOST: &str = "must name hosts as names, IPv4 addresses or [IPv6 addresses]; in a password, `:/?#@%` are written \
        as percent codes such as %2F";
const PORT: &str = "must have ports from 1 to 65535; in a password, `:/?#@%` are written as percent codes such as %2F";
const DB: &str = "must end with the number of a database, such as /0, or without a path";
const QUERY: &str = "has a parameter that is not known: redis+sentinel:// takes ?sentinel_password=, redis+unix:// \
        takes ?db=, and the others take none";
const PERCENT: &str = "must have two hexadecimal digits after each `%`, and be UTF-8 when decoded; a `%` itself is %25";
const USER: &str =
    "has a user without a password; a password without a user is written as :password@";
const ONE: &str = "must name one host; several are for redis+sentinel:// and redis+cluster://";
const SOCKET: &str =
    "must be the path of a socket and nothing else, such as redis+unix:///run/redis.sock";
const MASTER: &str = "must end with the master's name, such as /mymaster or /mymaster/0";
const CLUSTER: &str = "must have no database but 0, because a Redis Cluster has no other";

const REJECTED: &[(&str, &str)] = &[
    ("hunter2", SCHEME),
    ("localhost:6379", SCHEME),
    ("tls://h", SCHEME),
    ("http://h", SCHEME),
    ("rediss+unix:///a", SCHEME),
    ("redis+nats://h", SCHEME),
    ("redis://", HOST),
    ("redis://:hunter2@", HOST),
    ("redis://:hunter2@h h", "must not contain white space"),
    ("redis://::1", HOST),
    ("redis://[::x]", HOST),
    ("redis://[::1", HOST),
    ("redis://[::1]6379", HOST),
    ("redis://é", HOST),
    ("redis://:hunter2/x@h", HOST),
    ("redis://h:0", PORT),
    ("redis://h:65536", PORT),
    ("redis://h:", PORT),
    ("redis://h:+1", PORT),
    ("redis://u:hunter2/x@h", PORT),
    ("redis://h/x", DB),
    ("redis://h/-1", DB),
    ("redis://h/1/", DB),
    ("redis://h/2147483648", DB),
    ("redis+unix:///a?db=x", DB),
    ("redis://h?db=1", QUERY),
    ("redis+cluster://h?a=1", QUERY),
    ("redis+unix:///a?db=1&x=2", QUERY),
    ("redis+sentinel://h/m?password=hunter2", QUERY),
    ("redis+sentinel://h/m?sentinel_password=a&b=1", QUERY),
    ("redis+sentinel://h/m?sentinel_password", QUERY),
    ("redis://:hunter2#x@h", "must not contain `#`, which is %23 in a password"),
    ("redis://:hunter2%zz@h", PERCENT),
    ("redis://:hunter2%4@h", PERCENT),
    ("redis://:hunter2%ff@h", PERCENT),
    ("redis://hunter2@h", USER),
    ("redis://hunter2:@h", USER),
    ("redis://a,b", ONE),
    ("redis+unix://h/a", SOCKET),
    ("redis+unix://", SOCKET),
    ("redis+unix:///", SOCKET),
    ("redis+unix:///a%00", SOCKET),
    ("redis+sentinel://a,b", MASTER),
    ("redis+sentinel://a//0", MASTER),
    ("redis+sentinel://a,,b/m", HOST),
    ("redis+sentinel://a/m/x", DB),
    ("redis+cluster://a,", HOST),
    ("redis+cluster://a/1", CLUSTER),
    ("redis+cluster://a/x", DB),
];

#[test]
fn an_invalid_redis_url_is_rejected_and_redacted() {
    for (url, expected) in REJECTED {
        assert_eq!(url.parse::<RedisUrl>(), Err(*expected), "{url}");
        let error = Setup::default().file(&format!("[redis]\n\nurl = \"{url}\"")).error();
        assert_eq!(error, format!("config.toml:3: redis.url: {expected}"));
        assert!(!error.contains("hunter2"), "{error}");
    }
    let variable = with_app().env("CAMPANILE_REDIS__URL", "redis://hunter2@h").error();
    assert_eq!(variable, format!("environment CAMPANILE_REDIS__URL: redis.url: {USER}"));
}

#[test]
fn the_effective_configuration_shows_the_servers_and_no_password() {
    for (url, shown) in [
        ("redis://h", "redis://h:6379/0"),
        ("rediss://hunter2:hunter2@[::1]:1/2", "rediss://***@[::1]:1/2"),
        ("redis+unix://:hunter2@/a%20b", "redis+unix://***@/a%20b?db=0"),
        (
            "redis+sentinel://:hunter2@a,b:1/m/3?sentinel_password=hunter2",
            "redis+sentinel://***@a:26379,b:1/m/3?sentinel_password=***",
        ),
        ("rediss+cluster://:hunter2@a,b:1", "rediss+cluster://***@a:6379,b:1/0"),
    ] {
        let loaded = Setup::default().file(&format!("[redis]\nurl = \"{url}\"")).loaded();
        let toml = loaded.effective_toml();
        assert!(toml.contains(&format!("url = \"{shown}\"  # config.toml:2\n")), "{toml}");
        assert_eq!(format!("{:?}", loaded.config.redis.url), shown);
        for text in [toml, format!("{loaded:?} {:?} {:?}", loaded.config, parsed(url).password)] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn an_authority_is_for_tls() {
    let message = "redis.ca: is only for TLS: redis.url must begin with rediss://, rediss+sentinel:// or rediss+cluster://";
    for url in ["", "redis://h", "redis+unix:///a", "redis+cluster://a", "redis+sentinel://a/m"] {
        let file = format!("[redis]\nurl = \"{url}\"\nca = \"ca.pem\"");
        assert_eq!(Setup::default().file(&file).error(), format!("config.toml:3: {message}"));
    }
    for url in ["rediss://h", "rediss+cluster://a", "rediss+sentinel://a/m"] {
        let file = format!("[redis]\nurl = \"{url}\"\nca = \"ca.pem\"");
        let config = Setup::default().file(&file).loaded().config;
        assert_eq!(config.redis.ca, "ca.pem");
        assert_eq!(config.redis.target(), Some(parsed(url)));
    }
}

#[test]
fn a_prefix_is_short() {
    let prefix = |length| with_app().env("CAMPANILE_REDIS__PREFIX", &"x".repeat(length));
    assert_eq!(prefix(100).loaded().config.redis.prefix.len(), 100);
    let message = "redis.prefix: must be at most 100 bytes long";
    assert_eq!(prefix(101).error(), format!("environment CAMPANILE_REDIS__PREFIX: {message}"));
}

/// A setup with `switch` on and the variables of `lines`, each `NAME=value`.
fn with(switch: (&str, &str), lines: &[&str]) -> Setup {
    let setup = with_app().env(switch.0, switch.1);
    lines.iter().fold(setup, |setup, line| {
        let (name, value) = line.split_once('=').expect("NAME=value");
        setup.env(name, value)
    })
}

const SCALING: (&str, &str) = ("REVERB_SCALING_ENABLED", "(true)");
const ADAPTER: (&str, &str) = ("SOKETI_ADAPTER_DRIVER", "redis");

/// The address of Redis, and its source as `campanile check` reports it.
fn target(setup: Setup) -> (RedisTarget, String) {
    let loaded = setup.loaded();
    assert_eq!(loaded.warnings, [""; 0]);
    (loaded.config.redis.target().expect("a target"), source(&loaded, "[redis]", "url"))
}

#[test]
fn what_has_no_effect_on_redis_is_noted() {
    for (switch, line, why) in [
        (SCALING, "REDIS_TIMEOUT=5", "a node waits for Redis without giving up"),
        (SCALING, "REDIS_USERNAME=u", "no password is set"),
        (
            ("REVERB_SCALING_ENABLED", "false"),
            "REVERB_SCALING_CHANNEL=x",
            "REVERB_SCALING_ENABLED is not true",
        ),
        (ADAPTER, "SOKETI_DB_REDIS_USERNAME=u", "no password is set"),
        (
            ADAPTER,
            "SOKETI_RATE_LIMITER_DRIVER=redis",
            "each node limits the rates of its own connections",
        ),
        (ADAPTER, "SOKETI_ADAPTER_REDIS_REQUESTS_TIMEOUT=1", "nodes do not query each other"),
        (
            ADAPTER,
            "SOKETI_DB_REDIS_CLUSTER_NODES=[{\"host\":\"a\"}]",
            "SOKETI_ADAPTER_REDIS_CLUSTER_MODE (adapter.redis.clusterMode) is not true",
        ),
        (
            ("SOKETI_ADAPTER_DRIVER", "local"),
            "SOKETI_DB_REDIS_HOST=h",
            "SOKETI_ADAPTER_DRIVER (adapter.driver) is not redis",
        ),
    ] {
        let (name, _) = line.split_once('=').unwrap();
        let warnings = with(switch, &[line]).loaded().warnings;
        let expected = format!("environment {name} has no effect: {why}");
        assert!(
            matches!(warnings.as_slice(), [warning] if warning.starts_with(&expected)),
            "{warnings:?}"
        );
    }
}

#[test]
fn the_prefix_is_what_every_key_of_the_peer_begins_with() {
    let reverb = ["REDIS_PREFIX", "REVERB_SCALING_CHANNEL"];
    let soketi = ["SOKETI_DB_REDIS_KEY_PREFIX", "SOKETI_ADAPTER_REDIS_PREFIX"];
    for (switch, [outer, inner]) in [(SCALING, reverb), (ADAPTER, soketi)] {
        let (shop, live, braces) =
            (format!("{outer}=shop_"), format!("{inner}=live"), format!("{outer}={{shop}}"));
        for (lines, expected, from) in [
            (&[][..], "campanile", "default".to_owned()),
            (&[shop.as_str()], "shop_campanile", format!("environment {outer}")),
            (&[&live], "live", format!("environment {inner}")),
            (&[&shop, &live], "shop_live", format!("environment {inner}")),
        ] {
            let loaded = with(switch, lines).loaded();
            assert_eq!(loaded.config.redis.prefix, expected);
            assert_eq!(source(&loaded, "[redis]", "prefix"), from);
        }
        let message = "redis.prefix: must not contain braces or white space";
        let broken = || with(switch, &[&braces, &live]);
        assert_eq!(broken().error(), format!("environment {outer}: {message}"));
        let own = broken().env("CAMPANILE_REDIS__PREFIX", "own").loaded();
        assert_eq!(own.config.redis.prefix, "own");
    }
}

#[test]
fn campanile_variables_override_laravels_and_those_override_soketis() {
    let file = "[redis]\nurl = \"redis://file\"";
    let soketi =
        || with_app().file(file).env(ADAPTER.0, ADAPTER.1).env("SOKETI_DB_REDIS_HOST", "s");
    let reverb = || soketi().env(SCALING.0, SCALING.1).env("REDIS_HOST", "r");
    let ours = || reverb().env("CAMPANILE_REDIS__URL", "redis://c");
    for (setup, host, from) in [
        (with_app().file(file).env("REDIS_HOST", "r"), "file", "config.toml:2"),
        (soketi(), "s", "environment SOKETI_DB_REDIS_HOST"),
        (reverb(), "r", "environment REDIS_HOST"),
        (reverb().dotenv("REDIS_URL=redis://u"), "u", "environment REDIS_URL (.env)"),
        (ours(), "c", "environment CAMPANILE_REDIS__URL"),
    ] {
        assert_eq!(target(setup), (single(host, 6_379), from.to_owned()));
    }
    let alone = ours().env("CAMPANILE_REDIS__URL", "").loaded();
    assert_eq!(alone.config.redis.target(), None);
}
