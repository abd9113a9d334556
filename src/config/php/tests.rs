use super::{
    PhpValue, differences,
    parse::{PhpNode, returned, strings},
    token::{Token, tokens},
};
use crate::config::{
    AppConfig, Config, Secret, key::KeyPath, raw_config::RawConfig, value_source::ValueSource,
    variables::Variables,
};

/// The value of `php`, an expression, where the variable `SET` is `a,b` and `NULL` is null.
fn value(php: &str) -> PhpValue {
    let env = |name: &str| match name {
        "SET" => Some(PhpValue::String("a,b".to_owned())),
        "NULL" => Some(PhpValue::Null),
        _unset => None,
    };
    let tokens = tokens(&format!("<?php return {php};")).unwrap();
    returned(&tokens, &env).unwrap().value
}

fn text(text: &str) -> PhpValue {
    PhpValue::String(text.to_owned())
}

#[test]
fn literals_are_understood() {
    for (php, expected) in [
        ("'a'", text("a")),
        (r"'it\'s a \\ and \n'", text(r"it's a \ and \n")),
        (r#""a\n\"b\" \$c $ 1""#, text("a\n\"b\" $c $ 1")),
        (r#""a\tb\\""#, text("a\tb\\")),
        ("10_000", PhpValue::Number(10_000)),
        ("0x1F", PhpValue::Number(31)),
        ("017", PhpValue::Number(15)),
        ("-1", PhpValue::Number(-1)),
        ("TRUE", PhpValue::Boolean(true)),
        ("null", PhpValue::Null),
        ("('a')", text("a")),
        ("(int) '8080'", PhpValue::Number(8080)),
        ("(bool) 0", PhpValue::Boolean(false)),
        ("(bool) 'a'", PhpValue::Boolean(true)),
        ("(bool) '0'", PhpValue::Boolean(false)),
        ("(bool) 2", PhpValue::Boolean(true)),
        ("(bool) null", PhpValue::Boolean(false)),
        ("(bool) []", PhpValue::Boolean(false)),
        ("(boolean) ['a']", PhpValue::Boolean(true)),
        ("(int) true", PhpValue::Number(1)),
        ("(integer) null", PhpValue::Number(0)),
        ("(int) 'x'", PhpValue::Dynamic),
        ("(string) 1", text("1")),
        ("(string) null", text("")),
        ("(string) true", PhpValue::Dynamic),
        ("(array) null", PhpValue::Array(Vec::new())),
        ("/* 'x' */ 'a' // 'y'\n # 'z'\n", text("a")),
        ("trim(' a ')", text("a")),
        ("env('UNSET')", PhpValue::Null),
        ("env('UNSET', 'd')", text("d")),
        ("\\env('SET', 'd')", text("a,b")),
        ("env('NULL', 'd')", PhpValue::Null),
        ("env('SET',)", text("a,b")),
    ] {
        assert_eq!(value(php), expected, "{php}");
    }
}

#[test]
fn lists_are_understood() {
    for (php, expected) in [
        ("['a', 'b',]", vec!["a", "b"]),
        ("array('a', \"b\")", vec!["a", "b"]),
        ("[0 => 'a', 1 => 'b']", vec!["a", "b"]),
        ("[]", vec![]),
        ("explode(',', env('SET', '*'))", vec!["a", "b"]),
        ("explode(',', env('UNSET', '*'))", vec!["*"]),
        ("array_filter(explode(',', 'a,,b'))", vec!["a", "b"]),
        ("array_values(explode(',', 'a,,b'))", vec!["a", "", "b"]),
        ("array_map('trim', explode(',', 'a, b'))", vec!["a", "b"]),
        ("(array) 'a'", vec!["a"]),
        ("['a', /* 'b', */ 'c' // , 'd'\n]", vec!["a", "c"]),
        ("['], [', '//a', '#b', '/* c']", vec!["], [", "//a", "#b", "/* c"]),
    ] {
        assert_eq!(strings(&value(php)).unwrap(), expected, "{php}");
    }
}

#[test]
fn expressions_that_only_php_can_evaluate_are_computed() {
    for php in [
        "'a'.'b'",
        "\"a $b\"",
        "\"a {$b}\"",
        "$a",
        "`ls`",
        "1.5",
        "config('a.b')",
        "env('A') ?: 'b'",
        "env('A') ?? 'b'",
        "env($name)",
        "env(key: 'SET')",
        "true ? 'a' : 'b'",
        "App\\Origins::all()",
        "PHP_VERSION",
        "fn () => ['a']",
        "function () { return ['a']; }",
        "<<<END\n a\n END",
        "-'a'",
        "! true",
        "match (true) { default => 'a' }",
        "explode(',', config('a'))",
        "explode(',', 'a,b', 1)",
        "explode('', 'a,b')",
        "env('SET', 'a', 'b')",
        "array_map('strtoupper', ['a'])",
        "array_filter('a')",
        "array_values(['a' . 'b'])",
    ] {
        assert_eq!(value(php), PhpValue::Dynamic, "{php}");
    }
    assert_eq!(strings(&value("[...]")), None);
    assert_eq!(strings(&value("['a', ...$more]")), None);
    assert_eq!(strings(&value("['a', 'b' . 'c']")), None);
}

/// The configuration as a node.
fn root(php: &str) -> Option<PhpNode> {
    returned(&tokens(php).unwrap(), &|_| None)
}

#[test]
fn the_last_of_two_keys_counts_and_an_unknown_one_may_be_any() {
    let get =
        |php: &str| root(&format!("<?php return {php};")).unwrap().get("a").map(|node| node.value);
    assert_eq!(get("['a' => 1, 'b' => 3, 'a' => 2]"), Some(PhpValue::Number(2)));
    assert_eq!(get("['b' => 1, ['a' => 2]]"), None);
    assert_eq!(get("['a' => 1, $key => 2]"), Some(PhpValue::Dynamic));
    assert_eq!(get("['a' => 1, ...$more]"), Some(PhpValue::Dynamic));
    assert_eq!(get("[...$more, 'a' => 1]"), Some(PhpValue::Number(1)));
    assert_eq!(get("array_merge([], ['a' => 1])"), Some(PhpValue::Dynamic));
}

#[test]
fn a_file_is_one_return() {
    let file = "<?php\ndeclare(strict_types=1);\nuse Foo\\Bar;\n// return ['a' => 0];\nreturn ['a' => 1];\n?>\nreturn";
    assert_eq!(
        root(file).unwrap().get("a").unwrap(),
        PhpNode { value: PhpValue::Number(1), line: 5 }
    );
    for php in [
        "<?php $a = ['a' => 1];",
        "<?php if (true) return ['a' => 1]; return ['a' => 2];",
        "<?php if (true) { return ['a' => 1]; } return ['a' => 2];",
        "<?php return ['a' => 1",
        "<?php return [['a' => 1]",
        "<?php return",
    ] {
        assert_eq!(root(php), None, "{php}");
    }
}

#[test]
fn unterminated_input_is_rejected() {
    for (php, line) in [
        ("", 1),
        ("return [];", 1),
        ("<?php\n'a", 2),
        ("<?php\n\n\"a\\\"", 3),
        ("<?php /* a", 1),
        ("<?php <<<A\nB", 1),
        ("<?php '\\", 1),
    ] {
        assert_eq!(tokens(php), Err(line), "{php}");
    }
}

#[test]
fn depth_is_bounded_and_length_costs_in_proportion() {
    let deep = format!("<?php return {}1{};", "[".repeat(100_000), "]".repeat(100_000));
    assert!(root(&deep).is_some());
    let open = format!("<?php return {}", "[(".repeat(100_000));
    assert_eq!(root(&open), None);
    for open in [
        "(string)",
        "(array) ",
        "((int)",
        "[(bool)",
        "array((string)",
        "env((string)",
        "('a' => (int)",
        "-",
    ] {
        let cast = format!("<?php return {}1;", open.repeat(100_000));
        let _no_value = root(&cast);
    }
}

#[test]
fn tokens_have_their_lines_behind_texts_and_comments() {
    let read = |php: &str| tokens(&format!("<?php {php}")).unwrap();
    assert_eq!(
        read("<<<'A'\n AB\n  A.0b101\n0o17 0X1f 1.5 0"),
        [
            (Token::Opaque, 1),
            (Token::Punctuation('.'), 3),
            (Token::Number(5), 3),
            (Token::Number(15), 4),
            (Token::Number(31), 4),
            (Token::Opaque, 4),
            (Token::Number(0), 4),
        ]
    );
    assert_eq!(
        read("1 // a ?> text\n <?php 2 # b\n3#[c]/* d\n */'e\n'$f=>4"),
        [
            (Token::Number(1), 1),
            (Token::Number(2), 2),
            (Token::Number(3), 3),
            (Token::Punctuation('#'), 3),
            (Token::Punctuation('['), 3),
            (Token::Word("c".to_owned()), 3),
            (Token::Punctuation(']'), 3),
            (Token::Text("e\n".to_owned()), 4),
            (Token::Opaque, 5),
            (Token::Arrow, 5),
            (Token::Number(4), 5),
        ]
    );
}

#[test]
fn a_token_may_be_the_last_thing_in_a_file() {
    let read = |php: &str| tokens(&format!("<?php {php}")).unwrap();
    assert_eq!(read("$f"), [(Token::Opaque, 1)]);
    assert_eq!(read("a"), [(Token::Word("a".to_owned()), 1)]);
    assert_eq!(read("7"), [(Token::Number(7), 1)]);
    assert_eq!(read("'a'"), [(Token::Text("a".to_owned()), 1)]);
    for nothing in ["", " ", "// a", "# a", "/* a */", "?> a", "?>"] {
        assert_eq!(read(nothing), [], "{nothing}");
    }
}

#[test]
fn nesting_is_followed_to_its_bound() {
    let nested = |levels: usize| {
        let around = levels - 1;
        value(&format!("{}1{}", "(".repeat(around), ")".repeat(around)))
    };
    assert_eq!(nested(32), PhpValue::Number(1));
    assert_eq!(nested(33), PhpValue::Dynamic);
}

const STOCK: &str = r"<?php

return [

    'default' => env('REVERB_SERVER', 'reverb'),

    'servers' => [

        'reverb' => [
            'host' => env('REVERB_SERVER_HOST', '0.0.0.0'),
            'port' => env('REVERB_SERVER_PORT', 8080),
            'path' => env('REVERB_SERVER_PATH', ''),
            'hostname' => env('REVERB_HOST'),
            'options' => [
                'tls' => [],
            ],
            'max_request_size' => env('REVERB_MAX_REQUEST_SIZE', 10_000),
            'scaling' => [
                'enabled' => env('REVERB_SCALING_ENABLED', false),
                'channel' => env('REVERB_SCALING_CHANNEL', 'reverb'),
                'server' => [
                    'url' => env('REDIS_URL'),
                    'host' => env('REDIS_HOST', '127.0.0.1'),
                ],
            ],
            'pulse_ingest_interval' => env('REVERB_PULSE_INGEST_INTERVAL', 15),
        ],

    ],

    'apps' => [

        'provider' => 'config',

        'apps' => [
            [
                'key' => env('REVERB_APP_KEY'),
                'secret' => env('REVERB_APP_SECRET'),
                'app_id' => env('REVERB_APP_ID'),
                'options' => [
                    'host' => env('REVERB_HOST'),
                    'port' => env('REVERB_PORT', 443),
                    'scheme' => env('REVERB_SCHEME', 'https'),
                    'useTLS' => env('REVERB_SCHEME', 'https') === 'https',
                ],
                'allowed_origins' => ['*'],
                'ping_interval' => env('REVERB_APP_PING_INTERVAL', 60),
                'activity_timeout' => env('REVERB_APP_ACTIVITY_TIMEOUT', 30),
                'max_connections' => env('REVERB_APP_MAX_CONNECTIONS'),
                'max_message_size' => env('REVERB_APP_MAX_MESSAGE_SIZE', 10_000),
                'accept_client_events_from' => env('REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM', 'members'),
                'rate_limiting' => [
                    'enabled' => env('REVERB_APP_RATE_LIMITING_ENABLED', false),
                    'max_attempts' => env('REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS', 60),
                    'decay_seconds' => env('REVERB_APP_RATE_LIMIT_DECAY_SECONDS', 60),
                    'terminate_on_limit' => env('REVERB_APP_RATE_LIMIT_TERMINATE', false),
                ],
            ],
        ],

    ],

];
";

/// The differences of the stock file with `from` replaced by `to`, from a server whose app has the
/// key `k` and `origins`.
fn warned(from: &str, to: &str, origins: &[&str]) -> Vec<String> {
    assert!(STOCK.contains(from), "{from}");
    let app = AppConfig {
        id: "1".to_owned(),
        key: "k".to_owned(),
        secret: Secret::new("s"),
        allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        ..AppConfig::default()
    };
    let env = [("REVERB_APP_ID", "1"), ("REVERB_APP_KEY", "k"), ("REVERB_APP_SECRET", "s")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = Config { apps: vec![app], ..Config::default() };
    let mut raw = RawConfig::default();
    if origins != ["*"] {
        let source = ValueSource::Flag("--test");
        raw.set(KeyPath::new("apps[0].allowed_origins"), toml::Value::Array(Vec::new()), source);
    }
    differences(&STOCK.replacen(from, to, 1), &Variables::new(&env, None), &config, &raw)
}

const ANY: &str = "'allowed_origins' => ['*'],";

#[test]
fn the_file_of_a_new_project_differs_in_nothing() {
    assert_eq!(warned("return", "return", &["*"]), [""; 0]);
}

#[test]
fn ignored_origins_are_reported() {
    let restricted = "'allowed_origins' => [ /* '*', */ 'a.test', '*.b.test'], // '*'";
    assert_eq!(
        warned(ANY, restricted, &["*"]),
        [
            "config/reverb.php:46: sets allowed_origins to a.test, *.b.test. SECURITY: Campanile allows every origin (apps[0].allowed_origins): set REVERB_ALLOWED_ORIGINS=a.test,*.b.test"
        ]
    );
    assert_eq!(warned(ANY, restricted, &["a.test"]), [""; 0]);
    assert_eq!(warned(ANY, restricted, &["a.test", "c.test"]).len(), 1);
    assert_eq!(warned(ANY, "'allowed_origins' => [],", &["*"]).len(), 1);
    assert_eq!(
        warned(ANY, "'allowed_origins' => explode(',', env('ORIGINS', '*')),", &["*"]),
        [""; 0]
    );
    assert_eq!(
        warned(ANY, "'allowed_origins' => explode(',', env('ORIGINS', 'a.test')),", &["*"]).len(),
        1
    );
    assert_eq!(
        warned(ANY, "'allowed_origins' => ['a.test'], 'allowed_origins' => ['*'],", &["*"]),
        [""; 0]
    );
}

#[test]
fn computed_origins_are_reported_as_computed() {
    for php in
        ["config('cors.origins')", "[...$a]", "['a.test', env('B').'.test']", "explode(',', $a)"]
    {
        let warnings = warned(ANY, &format!("'allowed_origins' => {php},"), &["*"]);
        assert_eq!(warnings.len(), 1, "{php}: {warnings:?}");
        let begin =
            "config/reverb.php:46: computes allowed_origins, which cannot be evaluated. SECURITY: ";
        assert!(warnings[0].starts_with(begin), "{warnings:?}");
        assert_eq!(warned(ANY, &format!("'allowed_origins' => {php},"), &["a.test"]), [""; 0]);
    }
    let whole =
        warned("'apps' => [\n            [", "'apps' => [\n            ...$apps, [", &["*"]);
    assert!(whole[0].contains("computes its apps, so they cannot be evaluated"), "{whole:?}");
}

#[test]
fn further_apps_are_named() {
    let second = "'apps' => [\n            ['key' => 'k2', 'secret' => 's2', 'app_id' => 'two', 'allowed_origins' => ['x']],\n            [";
    let warnings = warned("'apps' => [\n            [", second, &["*"]);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("config/reverb.php:36: the app two is not served: "),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains("s2"), "{warnings:?}");
    let computed =
        warned("'apps' => [\n            [", "'apps' => $apps + [\n            [", &["*"]);
    assert_eq!(computed.len(), 1);
    assert!(computed[0].contains("computes its apps, so they cannot be evaluated"), "{computed:?}");
}

#[test]
fn other_values_that_differ_are_named_with_what_sets_them() {
    for (from, to, part) in [
        (
            "env('REVERB_SERVER_PORT', 8080)",
            "6002",
            "sets port to 6002; Campanile uses 8080: set REVERB_SERVER_PORT=6002",
        ),
        (
            "env('REVERB_SERVER_PORT', 8080)",
            "(int) env('WS_PORT', 6002)",
            "REVERB_SERVER_PORT=6002",
        ),
        ("env('REVERB_SERVER_HOST', '0.0.0.0')", "'127.0.0.1'", "REVERB_SERVER_HOST=127.0.0.1"),
        ("env('REVERB_SERVER_PATH', '')", "'/ws/'", "REVERB_SERVER_PATH=/ws/"),
        ("env('REVERB_MAX_REQUEST_SIZE', 10_000)", "50_000", "REVERB_MAX_REQUEST_SIZE=50000"),
        ("env('REVERB_APP_ACTIVITY_TIMEOUT', 30)", "20", "REVERB_APP_ACTIVITY_TIMEOUT=20"),
        ("env('REVERB_APP_MAX_CONNECTIONS')", "500", "REVERB_APP_MAX_CONNECTIONS=500"),
        (
            "env('REVERB_APP_MAX_MESSAGE_SIZE', 10_000)",
            "1024 * 1024",
            "REVERB_APP_MAX_MESSAGE_SIZE sets it",
        ),
        (
            "env('REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM', 'members')",
            "'none'",
            "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=none",
        ),
        (
            "env('REVERB_APP_RATE_LIMITING_ENABLED', false)",
            "true",
            "REVERB_APP_RATE_LIMITING_ENABLED=true",
        ),
        ("env('REVERB_SCALING_ENABLED', false)", "true", "REVERB_SCALING_ENABLED=true"),
        ("env('REVERB_APP_SECRET')", "'other-secret'", "its secret differs"),
        ("'provider' => 'config'", "'provider' => 'database'", "the provider database"),
        (
            "'tls' => [],",
            "'tls' => ['local_cert' => '/c.pem'],",
            "CAMPANILE_SERVER__TLS__CERT=/c.pem and CAMPANILE_SERVER__TLS__KEY=/c.pem",
        ),
        ("'tls' => [],", "'tls' => ['local_cert' => env('C', ''), 'local_pk' => env('K')],", ""),
        (
            "'tls' => [],",
            "'tls' => ['local_cert' => storage_path('c.pem'), 'local_pk' => storage_path('k.pem')],",
            "CAMPANILE_SERVER__TLS__CERT=FILE",
        ),
        (
            "'tls' => [],",
            "'tls' => ['local_cert' => '/c', 'local_pk' => '/k'],",
            "CERT=/c and CAMPANILE_SERVER__TLS__KEY=/k",
        ),
        ("'servers' => [", "'servers' => $servers + [", "computes servers"),
    ] {
        let warnings = warned(from, to, &["*"]);
        assert_eq!(warnings.len(), usize::from(!part.is_empty()), "{to}: {warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|warning| warning.contains(part) && !warning.contains("other-secret")),
            "{to}: {warnings:?}"
        );
    }
}

#[test]
fn a_file_that_is_not_understood_is_to_be_compared_by_hand() {
    let by_hand = |text: &str| {
        let config = Config::default();
        let warnings = differences(text, &Variables::default(), &config, &RawConfig::default());
        assert_eq!(warnings.len(), 1);
        warnings[0].ends_with("compare allowed_origins, apps and options.tls in it by hand")
    };
    assert!(by_hand("<?php\nreturn ['a"));
    assert!(by_hand("<?php\n$x = 1;"));
}
