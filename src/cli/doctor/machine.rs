//! This machine as `/proc` shows it: which process listens on a port, limits of processes.

use crate::metrics::process;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Process {
    pub(super) id: u32,
    /// The program and its first arguments, without options, which may be secrets.
    pub(super) command: String,
}

/// Maximum number of arguments of a command that are shown.
const ARGUMENTS_MAX: usize = 4;
/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The process that listens on a port, if this user may see it.
pub(super) fn listener(port: u16) -> Option<Process> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    let inodes: Vec<String> =
        tables.iter().flatten().flat_map(|table| listening_inodes(table, port)).collect();
    let has_socket = |id: u32| {
        let Ok(entries) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
        let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.into_iter().any(|target| {
            let inode =
                target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
        })
    };
    if inodes.is_empty() {
        return None;
    }
    let id = process_ids().find(|id| has_socket(*id))?;
    Some(Process { id, command: command_of(&arguments(id)) })
}

/// The file of the nginx that listens on a port, as its arguments name it.
pub(super) fn nginx_config(port: u16) -> Option<PathBuf> {
    let id = listener(port)?.id;
    // A worker has the sockets of the master, and other arguments.
    [Some(id), parent(id)].into_iter().flatten().find_map(|id| {
        let title = arguments(id).join(" ");
        let (_, command) = title.split_once("nginx: master process ")?;
        let words: Vec<_> = command.split(' ').collect();
        let option = |name: &str| {
            words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1).copied())
        };
        let folder = working_directory(id)?.join(option("-p").unwrap_or_default());
        Some(folder.join(option("-c")?))
    })
}

fn parent(id: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The processes whose arguments satisfy `wanted`.
pub(super) fn any_process(wanted: impl Fn(&[String]) -> bool) -> bool {
    process_ids().any(|id| wanted(&arguments(id)))
}

/// The folder that a process runs in.
pub(super) fn working_directory(id: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{id}/cwd")).ok()
}

/// The number of ports for outgoing connections.
pub(super) fn outgoing_ports() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_whitespace().map(str::parse::<u32>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

/// The number that a file has.
pub(super) fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether this machine is a container of Docker or Podman.
pub(super) fn is_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists())
}

/// When a file was changed.
pub(super) fn changed_at(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When a process started. The time of its folder in `/proc` is that of the first look at it.
pub(super) fn started_at(id: u32) -> Option<SystemTime> {
    let since_1970 = Duration::try_from_secs_f64(process::started_at(id)?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

fn process_ids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The arguments of a process, the program first.
pub(super) fn arguments(id: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The program by its name, and the arguments before the first option.
fn command_of(arguments: &[String]) -> String {
    let Some((program, rest)) = arguments.split_first() else { return "an unknown program".into() };
    let name = program.rsplit('/').next().unwrap_or(program);
    let words = rest.iter().take_while(|word| !word.starts_with('-')).take(ARGUMENTS_MAX);
    let words: Vec<_> = std::iter::once(name).chain(words.map(String::as_str)).collect();
    words.join(" ")
}

/// The inodes of the sockets that listen on a port, in the text of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let of_line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_wanted = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTENING;
        is_wanted.then(|| (*fields.get(9).unwrap_or(&"")).to_owned())
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_that_listen_on_a_port_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                     1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
                     2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n";
        assert_eq!(listening_inodes(table, 8080), ["4711"]);
        assert_eq!(listening_inodes(table, 80), ["4713"]);
        assert!(listening_inodes(table, 8081).is_empty());
    }

    #[test]
    fn the_listener_of_a_port_is_this_process() {
        let listener_of_test = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_of_test.local_addr().unwrap().port();
        let found = listener(port).unwrap();
        assert_eq!(found.id, std::process::id());
        assert!(working_directory(found.id).is_some());
        drop(listener_of_test);
        assert_eq!(listener(port), None);
    }

    /// The folder in `/proc` of a process that was not looked at before is as old as the look.
    #[test]
    fn a_process_is_as_old_as_it_is() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1_100));
        let before = SystemTime::now() - Duration::from_secs(1);
        let started_at = started_at(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(started_at.unwrap() < before, "{started_at:?} {before:?}");
    }

    #[test]
    fn options_of_a_command_are_not_shown() {
        for (arguments, shown) in [
            (
                &["/usr/bin/php", "artisan", "reverb:start", "--secret=x", "y"][..],
                "php artisan reverb:start",
            ),
            (&["nginx: master process /usr/sbin/nginx"], "nginx"),
            (&["node", "a", "b", "c", "d", "e"], "node a b c d"),
            (&[], "an unknown program"),
        ] {
            let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(command_of(&arguments), shown);
        }
    }

    #[test]
    fn this_machine_has_ports() {
        assert!(outgoing_ports().is_some_and(|ports| 0 < ports && ports <= 65_536));
    }
}
