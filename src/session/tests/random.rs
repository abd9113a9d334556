//! A session that receives random texts.

use super::*;

/// Random input never panics, and the deadline is always after the time of the input.
#[test]
fn no_text_makes_a_session_panic() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let inputs = std::env::var("FUZZ_INPUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut session, mut now) = session();
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u",
        "d83d",
        "null",
        "1e999",
        "-0",
        " ",
        "é",
        "\u{0}",
        "\"event\"",
        "\"data\"",
        "\"channel\"",
        "\"auth\"",
        "\"channel_data\"",
        "\"user_data\"",
        "\"pusher:subscribe\"",
        "\"pusher:unsubscribe\"",
        "\"pusher:signin\"",
        "\"client-x\"",
        "\"private-x\"",
        "\"presence-x\"",
        "\"#server-to-user-1\"",
        "\"app-key:00\"",
        "\"c\"",
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":",
        "{\"event\":\"client-x\",\"channel\":\"c\",\"data\":",
    ];
    for _ in 0..inputs {
        let text: String = (0..random.random_range(0..12))
            .map(|_| pieces[random.random_range(0..pieces.len())])
            .collect();
        now += Duration::from_millis(random.random_range(0..2_000));
        match session.on_text(&text, now) {
            Ok(Some(Action::Subscribe { channel, member })) => {
                session.add_subscription(channel, member.map(|member| member.user_id), 0);
            }
            Err(error) => drop(error.to_string()),
            Ok(_) => {}
        }
        assert!(now < session.deadline(), "seed {seed}: {text}");
    }
}
