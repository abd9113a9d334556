//! Each fault in isolation, for a few seconds.

use std::time::Duration;

use super::run::{Place, Plan, Run, faults, variable};

/// How long clients act before and after the fault.
const AROUND: Duration = Duration::from_millis(1_500);
/// A little longer than the default of `redis.node_timeout_ms`.
const JUST_TOO_LONG: Duration = Duration::from_millis(6_300);
/// Faults after which the nodes keep running normally. What Redis lacks then shows when one of them is killed.
const HIDDEN: [&str; 5] = ["away", "late-bytes", "pause", "evict", "delete-keys"];
/// Faults that slow down the network, on which everything must still work.
const SLOW: [&str; 2] = ["latency", "bandwidth"];

/// Runs a test of one fault.
async fn suffer(fault_name: &'static str, place: Place) {
    let (_, fault) = faults(place)
        .iter()
        .find(|(name, _)| *name == fault_name)
        .expect("the name is that of a fault");
    let mut run = Run::start(plan(fault_name, place)).await;
    tokio::time::sleep(AROUND).await;
    let at = run.bed.targets(*fault).await;
    let mut lasts = run.bed.draw(fault.lasts());
    if fault_name == "pause" {
        // The others have just cleaned up after the node, or are doing so.
        run.bed.inject_at(*fault, at.clone(), JUST_TOO_LONG).await;
        tokio::time::sleep(AROUND).await;
        lasts = JUST_TOO_LONG + AROUND;
    }
    run.bed.inject_at(*fault, at.clone(), lasts).await;
    tokio::time::sleep(AROUND).await;
    if HIDDEN.contains(&fault_name) {
        run.bed.kill(at.first().copied().unwrap_or_default()).await;
    }
    if SLOW.contains(&fault_name) {
        run.bed.rejoin_slowly(fault_name == "latency").await;
    }
    run.check().await;
}

fn plan(name: &'static str, place: Place) -> Plan {
    let seed = variable("CAMPANILE_SEED", 1);
    Plan { name, seed, nodes: 3, clients: 24, pause: 50..400, place }
}

/// Defines a test for each fault, with the fault's name.
macro_rules! each {
    ($module:ident, $place:expr, $($test:ident $name:literal,)*) => {
        mod $module {
            use super::Place;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::suffer($name, $place).await;
                }
            )*

            /// A fault without a test here would never be tested in isolation.
            #[test]
            fn every_fault_has_a_test() {
                let tested = [$($name),*];
                for (name, _) in super::faults($place) {
                    assert!(tested.contains(name), "{name} has no test");
                }
            }
        }
    };
}

each! { on_one_redis, Place::OneRedis,
    kill "kill",
    pause "pause",
    stall_to_redis "stall-to-redis",
    stall_to_node "stall-to-node",
    deaf_redis "deaf-redis",
    deaf_node "deaf-node",
    late_bytes "late-bytes",
    away "away",
    reset "reset",
    latency "latency",
    bandwidth "bandwidth",
    freeze "freeze",
    restart "restart",
    out_of_memory "out-of-memory",
    read_only "read-only",
    misconf "misconf",
    acl "acl",
    password "password",
    flush_all "flush-all",
    flush_db "flush-db",
    script_flush "script-flush",
    kill_clients "kill-clients",
    kill_pubsub "kill-pubsub",
    client_pause "client-pause",
    client_pause_write "client-pause-write",
    debug_sleep "debug-sleep",
    evict "evict",
    delete_keys "delete-keys",
    clock_forward "clock-forward",
    clock_back "clock-back",
    split "split",
}

each! { on_a_redis_cluster, Place::Cluster,
    kill "kill",
    pause "pause",
    reshard "reshard",
    fail_over "fail-over",
    freeze_master "freeze-master",
    flush_master "flush-master",
    clock_ahead "clock-ahead",
}
