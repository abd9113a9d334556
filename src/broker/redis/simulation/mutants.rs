//! Mutation tests: scripts with one rule removed, which the simulation must detect.

use super::{
    tests::{plan, run},
    world::{Fault, RunPlan},
};
use std::{cell::Cell, time::Duration};

/// One rule of a script, and its replacement.
#[derive(Clone, Copy, Debug)]
struct Mutant {
    /// The behaviour of the mutant.
    name: &'static str,
    rule: &'static str,
    without: &'static str,
    /// The faults that reveal the mutant.
    faults: &'static [Fault],
    is_redis_cluster: bool,
    /// The factor by which clients subscribe and leave more often than usual.
    churn: u32,
}

thread_local! {
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// The time within which writes alone must repair the state: a lease, and the cleanup. Comparisons take longer, and
/// would hide a mutant.
const SETTLES_WITHIN: Duration = Duration::from_secs(13);
/// The duration of the faults in a run: a mutant is detected at its end.
const TIME: Duration = Duration::from_secs(12);
/// The number of seeds within which a mutant must be detected.
const SEEDS: u64 = 100;

const MUTANTS: [Mutant; 9] = [
    Mutant {
        name: "writes of another generation are carried out",
        rule: "return known[1] == generation and known[2] == link",
        without: "return not known[2] or known[2] == link",
        faults: &[Fault::Flush],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "a node's list of topics is incomplete",
        rule: "call_or_reset('SADD', topics, key)",
        without: "",
        faults: &[Fault::KillNode],
        is_redis_cluster: false,
        churn: 8,
    },
    Mutant {
        name: "leases never end after a step of the clock backward",
        rule: "if was_paused or now + length < ends then",
        without: "if last + lease / 2 < now then",
        faults: &[Fault::ClockBackward, Fault::KillNode],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "a generation never opens after a step of the clock backward",
        rule: "if fields[field] and now < tonumber(fields[field]) then set(field, now) end",
        without: "",
        faults: &[Fault::Flush, Fault::ClockBackward, Fault::KillNode],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "differences are not detected",
        rule: "reply[#reply + 1] = is_inconsistent and 1 or 0",
        without: "reply[#reply + 1] = 0",
        faults: &[Fault::Evict],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "a dead node may write in other partitions",
        rule: "if phase == 'claim' or phase == 'fence' then",
        without: "if phase == 'claim' then",
        faults: &[Fault::StallNode],
        is_redis_cluster: true,
        churn: 1,
    },
    Mutant {
        name: "events are published again with a key that has a record",
        rule: "earlier = accepted[record] or call_or_reset('GET', record)",
        without: "earlier = accepted[record]",
        faults: &[Fault::Cut],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "a channel is logged only while it has readers",
        rule: "logged_until = math.max(logged_until, now + tonumber(ARGV[16]))",
        without: "",
        faults: &[Fault::Cut],
        is_redis_cluster: false,
        churn: 1,
    },
    Mutant {
        name: "nodes that join again have reported nothing before",
        rule: "is_complete and fields['s:' .. expected]",
        without: "false",
        faults: &[Fault::RestartWithData, Fault::ReadOnly, Fault::ClockBackward],
        is_redis_cluster: false,
        churn: 1,
    },
];

/// The text of a script in the running mutant.
pub(in crate::broker::redis) fn mutated(text: String) -> String {
    match MUTANT.get() {
        Some(mutant) => text.replace(mutant.rule, mutant.without),
        None => text,
    }
}

fn plan_of(mutant: Mutant, seed: u64) -> RunPlan {
    RunPlan {
        faults: mutant.faults.to_vec(),
        churn: mutant.churn,
        time: TIME,
        settles_within: SETTLES_WITHIN,
        ..plan(seed, mutant.is_redis_cluster)
    }
}

/// The first seed that detects a mutant, and the violation.
fn detected(mutant: Mutant) -> Option<(u64, String)> {
    MUTANT.set(Some(mutant));
    let found = (1..=SEEDS).find_map(|seed| {
        let violation = run(&plan_of(mutant, seed)).0.err()?;
        Some((seed, violation.lines().next().unwrap_or_default().to_owned()))
    });
    MUTANT.set(None);
    found
}

#[test]
fn each_rule_of_the_scripts_is_needed() {
    let mut undetected = Vec::new();
    for mutant in MUTANTS {
        let name = mutant.name;
        match detected(mutant) {
            Some((seed, violation)) => eprintln!("{name}: seed {seed}: {violation}"),
            None => undetected.push(name),
        }
    }
    assert!(undetected.is_empty(), "not detected: {undetected:?}");
}

#[test]
fn without_a_mutant_everything_is_right_in_time() {
    for mutant in MUTANTS.iter().filter(|mutant| mutant.faults != [Fault::Evict]) {
        for seed in 1..4 {
            if let Err(violation) = run(&plan_of(*mutant, seed)).0 {
                panic!("{}: CAMPANILE_SEED={seed}: {violation}", mutant.name);
            }
        }
    }
}

#[test]
fn each_mutant_changes_a_script() {
    let scripts = [
        include_str!("../lua/fencing.lua"),
        include_str!("../lua/heartbeat.lua"),
        include_str!("../lua/expire.lua"),
        include_str!("../lua/restore.lua"),
        include_str!("../lua/sync.lua"),
        include_str!("../lua/compare.lua"),
        include_str!("../lua/publish.lua"),
    ];
    for Mutant { name, rule, .. } in MUTANTS {
        assert!(scripts.iter().any(|script| script.contains(rule)), "{name}");
    }
}
