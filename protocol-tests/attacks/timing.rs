//! Signature probing in time: does a comparison take longer the more of a guess is right?
//!
//! Guesses that are wrong at once and guesses that are wrong at last are tried in turn, so that whatever else the
//! machine does meets both. The judgement is over medians, and over rounds: noise comes and goes, a leak stays. A
//! comparison that stops at the first difference is tried in the same way, and must be found out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use campanile::signature::{Signer, same_secret};

/// Batches of each kind in a round, and comparisons in a batch: long enough for the clock.
const BATCHES: usize = 300;
const BATCH: u32 = 40;
const ROUNDS: usize = 5;

/// A leak takes this part of the time of a comparison, and shows in so many batches more than it would by chance, in
/// standard deviations.
const LEAK: f64 = 0.004;
const DEVIATIONS: f64 = 5.0;

/// Whether guesses can be told apart by their time.
fn leaks(compare: impl Fn(&str) -> bool, wrong_at_once: &str, wrong_at_last: &str) -> bool {
    let rounds = (0..ROUNDS).filter(|_| leaks_in_a_round(&compare, wrong_at_once, wrong_at_last));
    ROUNDS / 2 < rounds.count()
}

fn leaks_in_a_round(
    compare: &impl Fn(&str) -> bool,
    wrong_at_once: &str,
    wrong_at_last: &str,
) -> bool {
    // One buffer for both, so that neither lies better in memory.
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
        // Either goes first every other time.
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
    // A coin that is tossed n times gives heads less tails with a deviation of the root of n.
    let deviations = f64::from(longer) / f64::from(u32::try_from(BATCHES).expect("few")).sqrt();
    LEAK < part && DEVIATIONS < deviations
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// `text` with another character at `place`.
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
    let compare = |guess: &str| same_secret(guess, &token);
    assert!(compare(&token));
    assert!(!leaks(compare, &wrong_at(&token, 0), &wrong_at(&token, 63)));
}
