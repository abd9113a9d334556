//! Timing attacks on signatures: does a comparison take longer if more of a guess is right?
//!
//! Guesses with a wrong first character and guesses with a wrong last character alternate, so that other load on the
//! machine affects both. The verdict compares medians over several rounds, since noise varies while a leak persists. A
//! comparison that stops at the first difference is tested in the same way, and must be detected.

use std::hint::black_box;
use std::time::{Duration, Instant};

use campanile::signature::{Signer, secrets_equal};

/// Batches of each kind in a round, and comparisons in a batch: long enough for the clock's resolution.
const BATCHES: usize = 300;
const BATCH: u32 = 40;
const ROUNDS: usize = 5;

/// The minimum difference of a leak, as a part of the time of a comparison, and how many standard deviations more
/// batches than by chance must show it.
const LEAK: f64 = 0.004;
const DEVIATIONS: f64 = 5.0;

/// Whether the time of a comparison reveals how much of a guess is right.
fn leaks(compare: impl Fn(&str) -> bool, wrong_at_once: &str, wrong_at_last: &str) -> bool {
    let rounds = (0..ROUNDS).filter(|_| leaks_in_a_round(&compare, wrong_at_once, wrong_at_last));
    ROUNDS / 2 < rounds.count()
}

fn leaks_in_a_round(
    compare: &impl Fn(&str) -> bool,
    wrong_at_once: &str,
    wrong_at_last: &str,
) -> bool {
    // Both use one buffer, so that memory placement affects both alike.
    let mut guess = String::with_capacity(wrong_at_once.len().max(wrong_at_last.len()));
    let mut time = |text: &str| {
        guess.clear();
        guess.push_str(text);
        let began = Instant::now();
        for _ in 0..BATCH {
            assert!(!compare(black_box(&guess)), "a wrong guess");
        }
        began.elapsed()
    };
    let (mut early, mut late, mut longer) = (Vec::new(), Vec::new(), 0_i32);
    for batch in 0..BATCHES {
        // The order alternates.
        let (one, other) = if batch % 2 == 0 {
            let one = time(wrong_at_once);
            (one, time(wrong_at_last))
        } else {
            let other = time(wrong_at_last);
            (time(wrong_at_once), other)
        };
        longer += match one.cmp(&other) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => -1,
        };
        early.push(one);
        late.push(other);
    }
    let (early, late) = (median(&mut early), median(&mut late));
    let part = (late.as_secs_f64() - early.as_secs_f64()) / early.as_secs_f64();
    // The difference of heads and tails in n coin tosses has a standard deviation of the root of n.
    let deviations = f64::from(longer) / f64::from(u32::try_from(BATCHES).expect("few")).sqrt();
    LEAK < part && DEVIATIONS < deviations
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// `text` with a different character at `place`.
fn wrong_at(text: &str, place: usize) -> String {
    let other = if text.as_bytes()[place] == b'0' { "1" } else { "0" };
    let mut wrong = text.to_owned();
    wrong.replace_range(place..=place, other);
    wrong
}

const TEXT: &str = "1234.1234:private-foobar";

#[test]
fn a_comparison_that_stops_early_is_detected() {
    let signer = Signer::new("7ad3773142a6692b25b8");
    let right = signer.sign(TEXT);
    let naive = |guess: &str| {
        let right = signer.sign(TEXT);
        right.bytes().zip(guess.bytes()).all(|(one, other)| black_box(one) == black_box(other))
    };
    assert!(naive(&right));
    assert!(leaks(naive, &wrong_at(&right, 0), &wrong_at(&right, 63)));
}

#[test]
fn a_signature_can_not_be_found_byte_by_byte() {
    let signer = Signer::new("7ad3773142a6692b25b8");
    let right = signer.sign(TEXT);
    let compare = |guess: &str| signer.verify(TEXT, guess);
    assert!(compare(&right));
    assert!(!leaks(compare, &wrong_at(&right, 0), &wrong_at(&right, 63)));
}

#[test]
fn a_token_can_not_be_found_byte_by_byte() {
    let token = "0123456789abcdef".repeat(4);
    let compare = |guess: &str| secrets_equal(guess, &token);
    assert!(compare(&token));
    assert!(!leaks(compare, &wrong_at(&token, 0), &wrong_at(&token, 63)));
}
