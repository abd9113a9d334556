//! Runs the cases against each mutant.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::task::JoinSet;

use super::{PARTS, Script, ScriptTestbed, accepted::ACCEPTED, lua, lua_files, lua_text, mutator};

/// The number of servers on which mutants run side by side.
const SERVERS: usize = 3;

/// A mutant of a script, or of a part of scripts.
struct Mutant {
    /// The name of the changed file.
    file: String,
    line: usize,
    changed: String,
    /// Each script that has the change, with its number.
    scripts: Vec<(usize, String)>,
}

/// The mutants of all scripts and parts, or of the one that `CAMPANILE_SCRIPT` names.
fn mutants(scripts: &[Script]) -> Vec<Mutant> {
    let only = std::env::var("CAMPANILE_SCRIPT").ok();
    let mut mutants = Vec::new();
    for file in lua_files() {
        if only.as_ref().is_some_and(|only| *only != file) {
            continue;
        }
        let placeholder = format!("@{}@", file.to_uppercase());
        let is_part = PARTS.contains(&file.as_str());
        for mutator::ScriptMutant { line, changed, text } in mutator::mutants(&lua_text(&file)) {
            let assembled = |script: &Script| {
                let part = |(name, part)| (name, if name == placeholder { &*text } else { part });
                let parts = lua::INCLUDES.map(part);
                let script = if is_part { &script.text } else { &text };
                mutator::with_bounded_loops(&lua::assembled(script, &parts, false))
            };
            let has = |script: &Script| {
                if is_part { script.text.contains(&placeholder) } else { script.name == file }
            };
            let with_number = scripts.iter().enumerate().filter(|(_, script)| has(script));
            let scripts = with_number.map(|(number, script)| (number, assembled(script))).collect();
            mutants.push(Mutant { file: file.clone(), line, changed, scripts });
        }
    }
    mutants
}

/// Whether a case detects the mutant.
async fn is_noticed(mutant: &Mutant, scripts: &[Script], bench: &mut ScriptTestbed) -> bool {
    for (number, text) in &mutant.scripts {
        let sha = bench.load(text).await;
        let sha = sha.unwrap_or_else(|error| panic!("{}: {error}", mutant.changed));
        for case in &scripts[*number].cases {
            if bench.run(case, &sha).await.is_err() {
                return true;
            }
        }
    }
    false
}

/// The mutants that no case detects.
async fn unnoticed(scripts: Vec<Script>, mutants: Vec<Mutant>) -> Vec<Mutant> {
    let (scripts, mutants) = (Arc::new(scripts), Arc::new(mutants));
    let next = Arc::new(AtomicUsize::new(0));
    let unnoticed = Arc::new(Mutex::new(BTreeSet::new()));
    let mut workers = JoinSet::new();
    for _ in 0..SERVERS {
        let (scripts, mutants) = (Arc::clone(&scripts), Arc::clone(&mutants));
        let (next, unnoticed) = (Arc::clone(&next), Arc::clone(&unnoticed));
        workers.spawn(async move {
            let mut bench = ScriptTestbed::start().await;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(mutant) = mutants.get(number) else { return };
                if !is_noticed(mutant, &scripts, &mut bench).await {
                    unnoticed.lock().expect("no worker has failed").insert(number);
                }
            }
        });
    }
    workers.join_all().await;
    let unnoticed = std::mem::take(&mut *unnoticed.lock().expect("no worker has failed"));
    let mutants = Arc::into_inner(mutants).expect("all workers are done");
    let with_number = mutants.into_iter().enumerate();
    with_number.filter(|(number, _)| unnoticed.contains(number)).map(|(_, mutant)| mutant).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mutant_of_a_script_is_noticed() {
    let scripts = Script::all(false);
    let mutants = mutants(&scripts);
    assert!(!mutants.is_empty(), "there is no such script");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for mutant in &mutants {
        *counts.entry(mutant.file.clone()).or_default() += 1;
    }
    let count = mutants.len();
    let (mut missed, mut accepted) = (Vec::new(), BTreeSet::new());
    for mutant in unnoticed(scripts, mutants).await {
        let is_accepted = |(number, (file, changed, _)): &(usize, &(&str, &str, &str))| {
            *file == mutant.file && *changed == mutant.changed && !accepted.contains(number)
        };
        match ACCEPTED.iter().enumerate().find(is_accepted).map(|(number, _)| number) {
            Some(number) => _ = accepted.insert(number),
            None => missed.push(format!("{}.lua:{}: {}", mutant.file, mutant.line, mutant.changed)),
        }
    }
    eprintln!("{count} mutants, {} accepted: {counts:?}", accepted.len());
    assert!(missed.is_empty(), "{}\n{} not detected", missed.join("\n"), missed.len());
    let unused = ACCEPTED
        .iter()
        .enumerate()
        .filter(|(number, (file, ..))| counts.contains_key(*file) && !accepted.contains(number));
    let unused: Vec<_> = unused.map(|(_, entry)| entry).collect();
    assert!(unused.is_empty(), "no longer needed: {unused:#?}");
}
