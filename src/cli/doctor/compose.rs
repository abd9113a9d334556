//! The ports that a file of Docker Compose publishes, as far as its lines show them.

use std::{fs, path::Path};

/// A file of Docker Compose.
#[derive(Debug)]
pub(super) struct ComposeFile {
    pub(super) name: &'static str,
    text: String,
}

const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Words of files that run the server or its application in a container.
const SERVERS: [&str; 4] = ["campanile", "reverb", "laravel.test", "soketi"];

impl ComposeFile {
    /// The file in a folder, if there is one that runs the server or its application.
    pub(super) fn find(dir: &Path) -> Option<Self> {
        let read = |name: &&'static str| {
            fs::read_to_string(dir.join(name)).ok().map(|text| Self { name, text })
        };
        let file = NAMES.iter().find_map(read)?;
        SERVERS.iter().any(|word| file.text.contains(word)).then_some(file)
    }

    /// The line of the first list of ports, counted from 1.
    pub(super) fn line_of_ports(&self) -> Option<usize> {
        let is_ports = |line: &str| without_comment(line).trim() == "ports:";
        self.text.lines().position(is_ports).map(|at| at + 1)
    }

    /// Whether a service has this name, which its containers resolve and this machine does not.
    pub(super) fn has_service(&self, name: &str) -> bool {
        let lines = self.text.lines().map(|line| without_comment(line).trim_end());
        let lines = lines.filter(|line| !line.is_empty());
        let mut services = lines.skip_while(|line| *line != "services:").skip(1).peekable();
        let indent_of = |line: &str| line.len() - line.trim_start().len();
        let indent = services.peek().map_or(0, |line| indent_of(line));
        let mut services = services.take_while(|line| 0 < indent_of(line));
        services.any(|line| {
            indent_of(line) == indent && line.trim_start().strip_suffix(':') == Some(name)
        })
    }

    /// Whether a service publishes a port of this machine with this number.
    pub(super) fn publishes(&self, port: u16) -> bool {
        let mut indent_of_ports = None;
        for line in self.text.lines().map(without_comment) {
            let text = line.trim();
            let indent = line.len() - line.trim_start().len();
            if text == "ports:" {
                indent_of_ports = Some(indent);
            } else if !text.is_empty() && indent_of_ports.is_some() {
                let is_item =
                    text.starts_with('-') || indent_of_ports.is_some_and(|of| of < indent);
                if !is_item {
                    indent_of_ports = None;
                } else if publishes(text.trim_start_matches('-').trim(), port) {
                    return true;
                }
            }
        }
        self.text.contains("network_mode: host") || self.text.contains("network_mode: \"host\"")
    }
}

/// A line without a comment.
fn without_comment(line: &str) -> &str {
    let is_start = |at: &usize| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    let end = line.match_indices('#').map(|(at, _)| at).find(is_start);
    &line[..end.unwrap_or(line.len())]
}

/// Whether an entry of a list of ports publishes this port: `8080:8080`, `127.0.0.1:8080:80/tcp`,
/// `${PORT:-8080}:8080`, `8000-8100:8000-8100`, `published: 8080`.
fn publishes(entry: &str, port: u16) -> bool {
    let entry = entry.trim_matches(['"', '\'']);
    if let Some(published) = entry.strip_prefix("published:") {
        return is_in(&defaults(published.trim().trim_matches(['"', '\''])), port);
    }
    let entry = defaults(entry);
    let entry = entry.split('/').next().unwrap_or_default();
    let mut parts = entry.rsplit(':');
    // The port of the container, then that of this machine; alone, Docker chooses the latter.
    let (_container, here) = (parts.next(), parts.next());
    here.is_some_and(|here| is_in(here, port))
}

fn is_in(range: &str, port: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&port),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// The text with the default in place of each `${NAME:-default}`.
fn defaults(text: &str) -> String {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some((before, from)) = rest.split_once("${") {
        let (variable, after) = from.split_once('}').unwrap_or((from, ""));
        replaced.push_str(before);
        replaced.push_str(variable.split_once('-').map_or("", |(_, default)| default));
        rest = after;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_name() {
        let text = "services:\n  # two\n  php:\n    image: php\n  reverb: # this\n    image: campanile\n\
                    volumes:\n  data:\n";
        let file = ComposeFile { name: "compose.yaml", text: text.to_owned() };
        for (name, expected) in
            [("php", true), ("reverb", true), ("image", false), ("data", false), ("volumes", false)]
        {
            assert_eq!(file.has_service(name), expected, "{name}");
        }
    }

    #[test]
    fn published_ports_are_found_in_each_notation() {
        for (entry, port, expected) in [
            ("\"8080:8080\"", 8080, true),
            ("8080", 8080, false),
            ("'9000:8080'", 8080, false),
            ("'9000:8080'", 9000, true),
            ("127.0.0.1:8080:80/tcp", 8080, true),
            ("'${REVERB_SERVER_PORT:-8080}:8080'", 8080, true),
            ("'${APP_PORT:-80}:80'", 8080, false),
            ("8000-8100:8000-8100", 8080, true),
            ("published: \"8080\"", 8080, true),
            ("target: 8080", 8080, false),
        ] {
            assert_eq!(publishes(entry, port), expected, "{entry}");
        }
    }

    #[test]
    fn only_lists_of_ports_publish() {
        let text = "services:\n  laravel.test:\n    ports:\n      - '80:80' # - '8080:8080'\n    expose:\n      - \"8080:8080\"\n  redis:\n    ports:\n    - target: 6379\n      published: 6379\n";
        let file = ComposeFile { name: NAMES[0], text: text.to_owned() };
        assert_eq!(file.line_of_ports(), Some(3));
        for (port, expected) in [(80, true), (8080, false), (6379, true)] {
            assert_eq!(file.publishes(port), expected, "{port}");
        }
    }
}
