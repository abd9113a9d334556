//! The report of a violation.

use super::{CHANNELS, World, readers::ReaderItem};
use std::fmt::Write as _;
use tokio::time::Instant;

impl World {
    /// A hash of all observations.
    pub(in crate::broker::redis::simulation) fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        for reader in &self.history.readers {
            format!("{:?}", reader.events().collect::<Vec<_>>()).hash(&mut hasher);
        }
        for session in &self.history.sessions {
            for (at, received) in &session.received {
                ((*at - self.start).as_micros(), format!("{received:?}")).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// How many commands Redis has executed.
    pub(in crate::broker::redis::simulation) fn commands(&self) -> u64 {
        self.addresses.iter().map(|(host, port)| self.network.commands(host, *port)).sum()
    }

    /// The plan, the injected faults, and the observations of the session and the event that the violation names.
    pub(in crate::broker::redis::simulation) fn report(&self, violation: &str) -> String {
        let mut text = format!("{violation}\n{:?}", self.plan);
        self.write_report(&mut text, violation).expect("a String takes all text");
        text
    }

    fn write_report(&self, text: &mut String, violation: &str) -> std::fmt::Result {
        let since = |at: Instant| (at - self.start).as_secs_f64();
        for (at, what) in &self.log {
            write!(text, "\n  {:9.3} {what}", at.as_secs_f64())?;
        }
        if let Some(session) =
            number(violation, "session ").and_then(|at| self.history.sessions.get(at))
        {
            let (slot, channel) = (session.slot, CHANNELS[session.channel]);
            write!(text, "\nsession on node {slot} channel {channel} user {:?}", session.user)?;
            for (at, received) in &session.received {
                write!(text, "\n  {:9.3} {received:?}", since(*at))?;
            }
        }
        if let Some(reader) =
            number(violation, "reader ").and_then(|at| self.history.readers.get(at))
        {
            write!(text, "\nreader of channel {}", CHANNELS[reader.channel])?;
            for item in &reader.items {
                match item {
                    ReaderItem::Accepted { at, before, gap } => {
                        let (at, before) = (since(*at), before.map(since));
                        write!(text, "\n  {at:9.3} accepted, before {before:?}, gap {gap:?}")?;
                    }
                    ReaderItem::Event(id) => write!(text, " {id}")?,
                }
            }
        }
        let events = self.history.events.lock().expect("one thread");
        if let Some(event) = number(violation, "event ").and_then(|at| events.get(at)) {
            let replied = event.replied.map(|(at, outcome)| (since(at), outcome));
            let (slots, begun) = (&event.slots, since(event.begun));
            write!(text, "\nevent through nodes {slots:?} at {begun:.3}, replied {replied:?}")?;
        }
        Ok(())
    }
}

/// The number that follows a word.
fn number(text: &str, word: &str) -> Option<usize> {
    let rest = text.split_once(word)?.1;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
