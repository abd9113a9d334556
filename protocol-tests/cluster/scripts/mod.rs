//! Each Lua script of the server, called directly on a real Redis, and a mutation test of the scripts.
//!
//! `cases/NAME.txt` contains the cases of `NAME.lua` in one of [`FOLDERS`]; [`case`] describes their format. A case lists the
//! data in Redis before a call, the reply, all keys, fields and times to live that the call changes, and the published
//! messages. The clock of Redis is stopped, so the tests of deadlines and leases are exact on both sides.
//!
//! [`mutator`] makes mutants of each script: one condition forced, one comparison flipped, one constant changed, one
//! statement removed. The cases must detect each of them, except for those in [`accepted`].
//!
//! ```sh
//! cargo test --test cluster scripts::                                    # needs redis-server
//! CAMPANILE_SCRIPT=sync cargo test --test cluster scripts::mutants       # the mutants of one script
//! ```

mod accepted;
mod bench;
mod case;
mod mutants;
mod mutator;
mod state;

#[path = "../../../src/broker/redis/lua.rs"]
mod lua;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bench::ScriptTestbed;
use case::Case;

/// The folders of the scripts: those of the cluster, and those of the webhooks.
const FOLDERS: [&str; 2] = ["src/broker/redis/lua", "src/webhook/store/redis/lua"];

/// Files that are parts of scripts. Their mutants run in the scripts that include them.
const PARTS: [&str; 3] = ["fencing", "log", "channel_log"];

/// A script, and its cases.
struct Script {
    name: String,
    /// With placeholders.
    text: String,
    cases: Vec<Case>,
}

impl Script {
    fn read(name: &str, is_cluster: bool) -> Self {
        let cases = fs::read_to_string(cases_path(name))
            .unwrap_or_else(|error| panic!("{name}.lua has no cases: {error}"));
        let logs_bytes = i64::try_from(lua::CHANNEL_LOGS_BYTES[usize::from(is_cluster)]);
        let cases = case::parse(&cases, logs_bytes.expect("it is less than 2^63"));
        let cases = cases.unwrap_or_else(|error| panic!("{name}.txt: {error}"));
        assert!(!cases.is_empty(), "{name}.txt has no case");
        Self { name: name.to_owned(), text: lua_text(name), cases }
    }

    fn all(is_cluster: bool) -> Vec<Self> {
        names().iter().map(|name| Self::read(name, is_cluster)).collect()
    }

    /// The failures of all cases.
    async fn failures(&self, bench: &mut ScriptTestbed) -> Vec<String> {
        let text = lua::assembled(&self.text, &lua::INCLUDES, bench.is_cluster);
        let sha = bench.load(&text).await.expect("Redis accepts the script");
        let mut failures = Vec::new();
        for case in &self.cases {
            if let Err(failure) = bench.run(case, &sha).await {
                failures.push(format!("{}.txt: {}\n{failure}", self.name, case.name));
            }
        }
        failures
    }
}

fn root() -> &'static Path {
    kit::root()
}

fn cases_path(name: &str) -> PathBuf {
    root().join("protocol-tests/cluster/scripts/cases").join(name).with_extension("txt")
}

fn lua_text(name: &str) -> String {
    let paths = FOLDERS.map(|folder| root().join(folder).join(name).with_extension("lua"));
    let path = paths.iter().find(|path| path.exists()).expect("a script of the repository");
    fs::read_to_string(path).expect("a file of the repository")
}

/// The names of the files of a folder with an extension.
fn files(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder of the repository");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

/// The scripts and their parts.
fn lua_files() -> BTreeSet<String> {
    FOLDERS.iter().flat_map(|folder| files(folder, "lua")).collect()
}

/// The scripts without their parts.
fn names() -> BTreeSet<String> {
    let mut names = lua_files();
    names.retain(|name| !PARTS.contains(&name.as_str()));
    names
}

async fn all_scripts_pass(mut bench: ScriptTestbed) {
    let mut failures = Vec::new();
    for script in Script::all(bench.is_cluster) {
        failures.extend(script.failures(&mut bench).await);
    }
    assert!(failures.is_empty(), "{}\n{} failures", failures.join("\n\n"), failures.len());
}

#[test]
fn each_script_has_cases() {
    assert_eq!(names(), files("protocol-tests/cluster/scripts/cases", "txt"));
}

#[tokio::test]
async fn the_scripts_do_what_their_cases_say() {
    all_scripts_pass(ScriptTestbed::start().await).await;
}

#[tokio::test]
async fn the_scripts_do_the_same_on_a_redis_cluster() {
    all_scripts_pass(ScriptTestbed::start_cluster().await).await;
}
