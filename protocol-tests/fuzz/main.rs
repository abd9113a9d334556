//! Hostile input, the same in every run: the bodies of the fuzz targets, run with mutations of valid inputs.
//!
//! `CAMPANILE_SEED=n` sets another seed, `CAMPANILE_INPUTS=n` the number of inputs. A failed test shows the input.

mod corpus;
mod drive;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The default seed. It is fixed, so that failures are reproducible.
const SEED: u64 = 7;

/// The number of inputs for each fast target. Targets that use a server get fewer.
const INPUTS: u64 = 20_000;
const SLOWER: u64 = 10;
const SLOWEST: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed run is repeated by its seed"
)]
fn run(name: &str, inputs: u64) {
    let drive = drive::DRIVES.iter().find(|(known, _)| *known == name).expect("a drive").1;
    let seed = number("CAMPANILE_SEED").unwrap_or(SEED);
    println!("{name}: CAMPANILE_SEED={seed}, {inputs} inputs");
    let seeds = corpus::seeds(name);
    let mut random = StdRng::seed_from_u64(seed);
    let mutations = (0..inputs).map(|_| mutate::mutated(&mut random, &seeds));
    for input in seeds.iter().cloned().chain(mutations) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drive(&input))) {
            eprintln!("{name} with {:?}", String::from_utf8_lossy(&input));
            resume_unwind(panic);
        }
    }
}

fn quick(name: &str) {
    run(name, number("CAMPANILE_INPUTS").unwrap_or(INPUTS));
}

fn slow(name: &str) {
    run(name, number("CAMPANILE_INPUTS").unwrap_or(INPUTS) / SLOWER);
}

#[test]
fn messages_of_clients() {
    quick("client_message");
}

#[test]
fn names_ids_and_versions() {
    quick("names");
}

#[test]
fn members() {
    quick("member");
}

#[test]
fn users() {
    quick("user");
}

#[test]
fn data_of_events() {
    quick("event_data");
}

#[test]
fn sessions() {
    quick("session");
}

#[test]
fn configuration_files() {
    slow("config_file");
}

#[test]
fn environment_files() {
    slow("config_env");
}

#[test]
fn requests() {
    slow("http_request");
}

#[test]
fn bodies_of_publishes() {
    slow("http_body");
}

#[test]
fn paths_and_queries() {
    slow("http_query");
}

#[test]
fn websocket_frames() {
    slow("frames");
}

/// Each input goes through two connections and a webhook.
#[test]
fn relayed_text_is_valid_json() {
    run("passed_on", number("CAMPANILE_INPUTS").unwrap_or(INPUTS) / SLOWEST);
}

/// A body without a fuzz target would be tested only here.
#[test]
fn every_drive_is_a_fuzz_target_and_is_tested_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the fuzz crate");
    let here = include_str!("main.rs");
    for (name, _) in drive::DRIVES {
        let file = folder.join("fuzz_targets").join(format!("{name}.rs"));
        let target = std::fs::read_to_string(&file).expect("a target for each drive");
        assert!(target.contains(&format!("drive::{name}(")), "{}", file.display());
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in fuzz/Cargo.toml");
        let is_tested =
            ["quick", "slow", "run"].iter().any(|run| here.contains(&format!("{run}(\"{name}\"")));
        assert!(is_tested, "{name}");
        assert!(!corpus::seeds(name).is_empty(), "{name}");
    }
    let targets = std::fs::read_dir(folder.join("fuzz_targets")).expect("a folder").count();
    assert_eq!(targets, drive::DRIVES.len());
}
