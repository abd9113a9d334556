//! The seeds of the mutations: valid inputs, from `docs/protocol.md#signature-vectors` and from clients and publishers.

use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/signatures.json");

/// Messages of clients.
const MESSAGES: &[&str] = &[
    r#"{"event":"pusher:ping","data":{}}"#,
    r#"{"event":"pusher:pong","data":{}}"#,
    r#"{"event":"pusher:pong"}"#,
    r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"cache-news"}}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"app-key:58df8b0c","channel":"private-foobar"}}"#,
    r#"{"event":"pusher:subscribe","data":"{\"channel\":\"news\",\"auth\":null}"}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"app-key:00","channel_data":"{\"user_id\":10}","channel":"presence-x"}}"#,
    r##"{"event":"pusher:subscribe","data":{"channel":"#server-to-user-7","auth":""}}"##,
    r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
    r#"{"event":"campanile:resume","data":{"channels":{"news":["k3",1042],"private-a":["",0]}}}"#,
    r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-x"}}"#,
    r#"{"event":"pusher:signin","data":{"auth":"app-key:00","user_data":"{\"id\":\"7\",\"watchlist\":[\"8\"]}"}}"#,
    r#"{"event":"client-typing","channel":"private-foobar","data":{"user":"a b","n":[1,2.5e3,null]}}"#,
    r#"{"event":"client-typing","channel":"presence-x","data":"\u00e9\ud83d\ude00\/"}"#,
    r#"{"event":"client-typing","channel":"private-foobar"}"#,
    r#"{"event":"pusher_internal:anything","data":"x","channel":"c","socket_id":"1.1"}"#,
    "{ \"event\" : \"pusher:ping\" , \"data\" : null }",
    "nonsense",
];

/// Data of members, users and events.
const DATA: &[&str] = &[
    r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#,
    r#"{"user_id":"\u00e9","user_info":null,"x":1}"#,
    r#"{"user_id":"1","user_info":{"a": {"b" : [1, "two", {}]}}}"#,
    r#"{"id":"7","user_info":{"name": "Ann"},"watchlist":["9","8","9"]}"#,
    r#"{"id":"a@b.c"}"#,
    r#""text with \"quotes\", \\ and \u00e9 \ud83d\ude00 \ud800""#,
    r#"{ "a": [1, 2.5e-3, -0, 1e400], "b" : "c d" }"#,
    "[[[[]]]]",
    "12345678901234567890",
    "null",
    "true",
];

/// Inputs of clients and publishers that others receive, in the format of [`crate::drive::passed_on`].
const PASSED_ON: &[&str] = &[
    r#"{"event":"client-typing","channel":"private-foobar","data":{"user":"a b","n":[1,2.5e3,null]}}"#,
    r#"{"event":"client-\ud800","channel":"presence-x","data":"\u00e9\ud83d\ude00\/\udc00"}"#,
    r#"{"event":"client-typing","channel":"private-foobar","data":{"\ud800":["\udfff",{"\ud83d":"\ude00"}]}}"#,
    r#"{"event":"client-typing","channel":"presence-x","data":"{\"a\":\"\\ud800\"}","\udc00":"\ud800"}"#,
    r#"{"event":"client-typing","channel":"private-foobar"}"#,
    r#"P{"name":"App\\Events\\X","channels":["private-foobar","presence-x"],"data":"{\"a\":\"\ud800\"}"}"#,
    r#"P{"name":"\udc00","channel":"presence-x","data":{"\ud800":[1e400,"\u0000"]},"info":"user_count"}"#,
];

const NAMES: &[&str] = &[
    "news",
    "private-foobar",
    "private-encrypted-cache-x",
    "presence-cache-x",
    "#server-to-user-a@b.c",
    "a_b-c=d@e,f.g;h",
    "1234.1234",
    "4294967295.1",
    "07.1",
    "7",
    "4",
];

/// Inputs of a session, in the format of [`crate::drive::session`].
const SESSIONS: &[&str] = &[
    "s private-a\n{\"event\":\"client-x\",\"channel\":\"private-a\",\"data\":1}\n{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"private-a\"}}\ns private-a",
    "p {\"user_id\":\"1\",\"user_info\":{\"n\":1}}\n{\"event\":\"client-x\",\"channel\":\"presence-x\",\"data\":{}}\nd 119999\nd 1\nd 30000",
    "u {\"id\":\"7\",\"watchlist\":[\"8\"]}\ns #server-to-user-7\ns #server-to-user-8\nu {\"id\":\"8\"}",
    "s a\ns b\ns c\ns d\ns e\ns f\ns a\n{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"c\"}}\ns f",
    "x\nx\nx\nx\nx\nx\nx\nx\n{\"event\":\"pusher:ping\"}\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx",
    "d 120000\n{\"event\":\"pusher:pong\"}\nd 120000\nd 29999\nd 1",
];

const REQUESTS: &[&str] = &[
    "GET /up HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HEAD /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\nGET /up HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "OPTIONS /apps/app-id/events HTTP/1.1\r\nhost: localhost\r\norigin: https://a.test\r\naccess-control-request-method: POST\r\n\r\n",
    "POST /apps/app-id/events?auth_key=app-key&auth_version=1.0&auth_timestamp=1&auth_signature=00 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
    "POST /apps/app-id/batch_events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\n",
    "GET /app/app-key?protocol=7&client=js HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: pusher-channels-protocol-7\r\norigin: https://a.test\r\nx-forwarded-for: 1.2.3.4, [::1]:5\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\nx-request-id: abc\r\n\r\n",
    "GET /apps/app-id/channels/a%3Bb/users HTTP/1.0\n\n",
];

const BODIES: &[&str] = &[
    r#"0{"name":"e","channel":"c","data":"{\"a\":1}"}"#,
    r#"0{"name":"App\\Events\\X","channels":["a","private-b","presence-c"],"data":{"a":[1]},"socket_id":"1.2","info":"user_count,subscription_count"}"#,
    r#"1{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"f","channel":"cache-b","data":"2","info":"subscription_count","socket_id":"1.1"}]}"#,
    r#"1{"batch":[]}"#,
    r#"0{"name":"e","channel":"c","data":"\ud83d\ude00"}"#,
];

const QUERIES: &[&str] = &[
    "channels\nfilter_by_prefix=presence-&info=user_count",
    "channels/presence-a\ninfo=user_count%2Csubscription_count",
    "channels/cache-a%3Bb\ninfo=cache",
    "channels/presence-a/users\n",
    "channels/a/history\nlimit=2&direction=oldest_first&cursor=a:1&start_serial=1&end_serial=9",
    "connections\nk[]=b&k[]=a&Zebra=1",
    "users/7/terminate_connections\nbody_md5=d41d8cd98f00b204e9800998ecf8427e",
    "users/7/force_reconnect\nbody_md5=d41d8cd98f00b204e9800998ecf8427e",
    "events\nk%5B0%5D=a+b&&=&auth_version=2.0",
];

const TOML: &[&str] = &[
    include_str!("../../config.toml"),
    "[server]\nport = 9000\npath = \"/ws\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n",
    "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"abcdefghijklmnopqrstuvwxyz\"\nallowed_origins = [\"*.example.com\"]\n\n[[apps]]\nid = \"2\"\nkey = \"l\"\nsecret = \"t\"\nclient_events = \"none\"\n",
    "log.level = \"debug\"\nconnection = { max_message_bytes = 1_024, strict_protocol = true }\nmetrics.token = \"tttttttttttttttttttttttttttt\"\n",
];

const ENV: &[&str] = &[
    "CAMPANILE_SERVER__PORT=9000\nCAMPANILE_APPS__0__KEY=\"a b\"\n",
    "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET='s$x'\nREVERB_HOST=\"localhost\"\nREVERB_PORT=8080\n",
    "export A=b # comment\nB=\"${A}\\n\\\"$\"\nSOKETI_DEFAULT_APP_ID=1\nSOKETI_DEFAULT_APP_KEY=${B}\n",
    "\u{feff}# only a comment\n\nNAME\nX=\"two\nlines\"\n",
];

/// The valid inputs of a fuzz target.
pub(crate) fn seeds(drive: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match drive {
        "client_message" => texts(MESSAGES),
        "config_env" => texts(ENV),
        "config_file" => texts(TOML),
        "frames" => frames(),
        "http_body" => {
            let bodies = vectors("body").into_iter().map(|body| [b"0".to_vec(), body].concat());
            bodies.chain(texts(BODIES)).collect()
        }
        "http_query" => texts(QUERIES),
        "http_request" => texts(REQUESTS),
        "event_data" | "member" => [texts(DATA), vectors("channel_data")].concat(),
        "passed_on" => texts(PASSED_ON),
        "names" => [texts(NAMES), vectors("channel")].concat(),
        "session" => {
            let messages = MESSAGES.join("\n").into_bytes();
            let members =
                vectors("channel_data").into_iter().map(|data| [b"p ".to_vec(), data].concat());
            texts(SESSIONS).into_iter().chain([messages]).chain(members).collect()
        }
        "user" => [texts(DATA), vectors("user_data")].concat(),
        other => panic!("no corpus for {other}"),
    }
}

/// The values of one member in all vectors.
fn vectors(member: &str) -> Vec<Vec<u8>> {
    let all: Value = serde_json::from_str(VECTORS).expect("the file of vectors is JSON");
    let lists = all.as_object().expect("an object").values().filter_map(Value::as_array);
    let texts = lists.flatten().filter_map(|vector| vector[member].as_str());
    texts.map(|text| text.as_bytes().to_vec()).collect()
}

/// Frames with messages. Their mask is zero, so that mutations can change the text.
fn frames() -> Vec<Vec<u8>> {
    let each = MESSAGES.iter().map(|message| frame(0x81, message.as_bytes()));
    let (front, back) = MESSAGES[3].split_at(20);
    let fragments =
        [frame(0x01, front.as_bytes()), frame(0x89, b"ping"), frame(0x80, back.as_bytes())];
    let others = [
        fragments.concat(),
        frame(0x82, MESSAGES[0].as_bytes()),
        frame(0x88, &[0x03, 0xe8]),
        frame(0x88, b""),
        frame(0x8a, b"pong"),
        [frame(0x81, MESSAGES[3].as_bytes()), frame(0x88, &[0x0f, 0xa0, b'b', b'y', b'e'])]
            .concat(),
        frame(0x81, format!("{:>300}", MESSAGES[0]).as_bytes()),
    ];
    each.chain(others).collect()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("the corpus is small");
    let head = match u8::try_from(len) {
        Ok(len @ 0..126) => vec![first, 0x80 | len],
        Ok(_) | Err(_) => [&[first, 0xfe], &len.to_be_bytes()[..]].concat(),
    };
    [&head, &[0; 4][..], payload].concat()
}
