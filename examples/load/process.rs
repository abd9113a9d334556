//! The CPU time, memory and open files of a process. Linux only; elsewhere, the values are unknown.

use crate::number::float;
use std::fs;

/// Ticks per second of the times in `/proc`; the same on all current Linux systems.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes of the server under test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(Vec<u32>);

/// The resource usage of the processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all threads, user and system, in seconds.
    pub(crate) cpu_s: f64,
    /// Resident memory in KiB.
    pub(crate) rss_kib: f64,
}

impl Processes {
    /// The processes with these ids, of which there may be none.
    pub(crate) fn new(pids: &[u32]) -> Self {
        Self(pids.to_vec())
    }

    /// The usage so far, or `None` if it is unknown.
    pub(crate) fn usage(&self) -> Option<Usage> {
        if self.0.is_empty() {
            return None;
        }
        self.0.iter().try_fold(Usage::default(), |sum, pid| {
            let one = usage(&format!("/proc/{pid}"))?;
            Some(Usage { cpu_s: sum.cpu_s + one.cpu_s, rss_kib: sum.rss_kib + one.rss_kib })
        })
    }
}

/// The CPU seconds of this process, and of its children with these ids.
pub(crate) fn own_cpu_s(children: impl Iterator<Item = u32>) -> Option<f64> {
    let own = cpu_s("/proc/self/stat")?;
    children.into_iter().try_fold(own, |sum, pid| Some(sum + cpu_s(&format!("/proc/{pid}/stat"))?))
}

/// The CPU seconds of the current thread.
pub(crate) fn thread_cpu_s() -> Option<f64> {
    // The scheduler's clock is finer than the ticks, if the kernel provides it.
    let fine = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let fine = fine.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    match fine {
        Some(nanos) if nanos != 0 => Some(float(nanos) / 1e9),
        _ => cpu_s("/proc/thread-self/stat"),
    }
}

fn usage(folder: &str) -> Option<Usage> {
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kib = line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()?;
    Some(Usage { cpu_s: cpu_s(&format!("{folder}/stat"))?, rss_kib: float(rss_kib) })
}

fn cpu_s(path: &str) -> Option<f64> {
    parse_cpu_s(&fs::read_to_string(path).ok()?)
}

/// Fields 14 and 15, counted from the end of the name, which can contain any character.
fn parse_cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(float(user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 9 9 20 0 3 0";
        assert_eq!(parse_cpu_s(stat), Some(2.0));
    }
}
