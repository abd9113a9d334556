//! Process metrics, under the names that Prometheus' own clients use.

use super::table;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use std::{fmt, fs};

/// Ticks per second in `/proc/*/stat`: `USER_HZ`, which is 100 on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The values of `/proc` for this process. Values that can't be read are left out.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    started_at: Option<f64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).ok();
        let stat = text("/proc/self/stat");
        let stat = stat.as_deref().and_then(parse_stat);
        let status = text("/proc/self/status");
        Self {
            cpu_seconds: stat.map(|(cpu_ticks, _)| cpu_ticks / TICKS_PER_SECOND),
            resident_bytes: status
                .and_then(|text| number_after(&text, "VmRSS:"))
                .map(|kib| kib.saturating_mul(1_024)),
            started_at: stat.and_then(|(_, start_ticks)| since_1970(start_ticks)),
            open_fds: open_fds(),
            max_fds: rlimit::Resource::NOFILE.get_soft().ok(),
        }
    }
}

/// When a process started, in seconds since 1970, at most a second too early.
pub(crate) fn started_at(id: u32) -> Option<f64> {
    let (_, start_ticks) = parse_stat(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?;
    since_1970(start_ticks)
}

/// A time in ticks since boot, in seconds since 1970.
fn since_1970(ticks: f64) -> Option<f64> {
    let booted_at = number_after(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
    Some(seconds(booted_at) + ticks / TICKS_PER_SECOND)
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are below 2^52")]
fn seconds(seconds: u64) -> f64 {
    seconds as f64
}

/// The CPU time of the process in ticks, and its start in ticks since boot.
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    // The second field is the program's name in parentheses, which may contain any character.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |at: usize| fields.split_whitespace().nth(at)?.parse::<f64>().ok();
    Some((field(11)? + field(12)?, field(19)?))
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Counts the open file descriptors. Since Linux 6.2 the size of the directory is their number;
/// before, its entries are counted.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    let size = fs::metadata(directory).ok()?.len();
    if 0 < size {
        return Some(size);
    }
    Some(fs::read_dir(directory).ok()?.count() as u64)
}

/// Resident bytes and CPU seconds of this process, if they are known.
pub(super) fn usage() -> (Option<u64>, Option<f64>) {
    let process = Process::read();
    (process.resident_bytes, process.cpu_seconds)
}

/// Writes the metrics of the process.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let process = Process::read();
    if let Some(seconds) = process.cpu_seconds {
        let mut family = table::PROCESS_CPU.describe(encoder)?;
        family.encode_counter::<NoLabelSet, f64, u64>(&seconds, None)?;
    }
    if let Some(started_at) = process.started_at {
        table::PROCESS_START_TIME.describe(encoder)?.encode_gauge(&started_at)?;
    }
    let gauges = [
        (table::PROCESS_RESIDENT_MEMORY, process.resident_bytes),
        (table::PROCESS_OPEN_FDS, process.open_fds),
        (table::PROCESS_MAX_FDS, process.max_fds),
    ];
    for (metric, value) in gauges {
        if let Some(value) = value {
            metric.encode_gauge(encoder, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn fields_are_found_after_any_program_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_stat(stat), Some((300.0, 4_711.0)));
        assert_eq!(parse_stat("nonsense"), None);
        assert_eq!(number_after("VmPeak:\t 1 kB\nVmRSS:\t  42 kB\n", "VmRSS:"), Some(42));
    }

    #[test]
    fn this_process_is_read() {
        let process = Process::read();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let started_at = process.started_at.unwrap();
        assert!(now - 3_600.0 < started_at && started_at < now + 2.0, "{started_at} {now}");
        assert_eq!(super::started_at(std::process::id()), process.started_at);
        assert!(1 << 20 < process.resident_bytes.unwrap());
        let (open, max) = (process.open_fds.unwrap(), process.max_fds.unwrap());
        assert!(3 <= open && open < max, "{open} of {max}");
        let _more = [fs::File::open("/proc/self/stat").unwrap(), fs::File::open("/").unwrap()];
        assert!(process.cpu_seconds.is_some());
    }
}
