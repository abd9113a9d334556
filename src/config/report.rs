//! The effective configuration as a file that says of every value where it comes from.

use super::{Loaded, key::Key, schema::flatten};

impl Loaded {
    /// The whole effective configuration as TOML, with secrets masked. A comment behind each value
    /// names its origin.
    #[must_use]
    pub fn effective_toml(&self) -> String {
        let mut lines = Vec::new();
        let mut section = Key::default();
        for (key, _, value) in flatten(&self.config) {
            if key.section() != section {
                section = key.section();
                lines.push(header(&section));
            }
            lines.push(format!("{} = {value}  # {}", key.name(), self.origin(&key)));
        }
        lines.join("\n").trim_start().to_owned() + "\n"
    }

    fn origin(&self, key: &Key) -> String {
        let origin = self.draft.origin(key);
        if self.confined && key.as_str() == "server.host" {
            return format!("{origin}, but loopback for the development app");
        }
        origin.to_string()
    }
}

/// The line that begins `section`, after an empty one.
fn header(section: &Key) -> String {
    let names: Vec<_> = section.parts().map(|(name, _)| name).collect();
    let names = names.join(".");
    if section.as_str().ends_with(']') { format!("\n[[{names}]]") } else { format!("\n[{names}]") }
}
