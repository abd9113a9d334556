//! Pages of the events of a log, for the HTTP API.

use super::{ChannelLog, LogLimits, LoggedEvent};
use crate::protocol::Frame;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Which events of a channel a page has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryQuery {
    /// Maximum number of events.
    pub limit: usize,
    /// Whether the latest event is the first.
    pub newest_first: bool,
    /// The first sequence.
    pub start: u64,
    /// The last sequence.
    pub end: u64,
    /// The log that the sequences are of, if they are of a certain one.
    pub epoch: Option<Arc<str>>,
}

/// An event of a page.
#[derive(Clone, Debug)]
pub struct HistoryItem {
    /// The event's sequence in the log.
    pub sequence: u64,
    /// How long ago it was published.
    pub age: Duration,
    /// The event as subscribers receive it.
    pub frame: Frame,
}

/// Events of the log of a channel, and what the log has.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The epoch of the log.
    pub epoch: Arc<str>,
    /// The events, in the order of the query.
    pub items: Vec<HistoryItem>,
    /// Whether the log has more events that match the query.
    pub has_more: bool,
    /// The sequence of the oldest event that is kept; `None` if none is.
    pub oldest: Option<u64>,
    /// The sequence of the latest event, kept or not.
    pub newest: u64,
    /// Number of events that are kept.
    pub kept: usize,
    /// Bytes of the texts of the events that are kept.
    pub kept_bytes: usize,
    /// Whether events that match the query are not kept any more.
    pub is_truncated: bool,
}

impl ChannelLog {
    /// The events that match `query` among those within the limits. `None` if the log is another than that of
    /// the query.
    #[must_use]
    pub fn page(
        &self,
        query: &HistoryQuery,
        limits: LogLimits,
        now: Instant,
    ) -> Option<HistoryPage> {
        let end = self.end();
        if query.epoch.as_ref().is_some_and(|epoch| *epoch != end.epoch) {
            return None;
        }
        let age = |event: &LoggedEvent| now.saturating_duration_since(event.published_at);
        let kept = self.events().rev().take(limits.events);
        let mut kept: Vec<&LoggedEvent> =
            kept.take_while(|event| age(event) <= limits.age).collect();
        let oldest = kept.last().map(|event| event.sequence);
        let text = |event: &LoggedEvent| event.frame.as_text().map_or(0, str::len);
        let (count, kept_bytes) = (kept.len(), kept.iter().map(|event| text(event)).sum());
        if !query.newest_first {
            kept.reverse();
        }
        let range = query.start..=query.end;
        let mut matching = kept.into_iter().filter(|event| range.contains(&event.sequence));
        let items = matching.by_ref().take(query.limit).map(|event| HistoryItem {
            sequence: event.sequence,
            age: age(event),
            frame: event.frame.clone(),
        });
        let items = items.collect();
        let first_lost = query.start.max(1);
        let first_kept = oldest.unwrap_or(end.sequence + 1);
        Some(HistoryPage {
            epoch: end.epoch,
            items,
            has_more: matching.next().is_some(),
            oldest,
            newest: end.sequence,
            kept: count,
            kept_bytes,
            is_truncated: first_lost < first_kept && first_lost <= query.end.min(end.sequence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FrameKind;

    /// A log of six events, one a second, of which four are kept.
    fn pages() -> (ChannelLog, LogLimits, Instant) {
        let mut log = ChannelLog::new("a".into());
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        for second in 1..=6 {
            log.append(Frame::text(FrameKind::Event, &second.to_string()), None, at(second));
        }
        let limits = LogLimits { events: 5, bytes: usize::MAX, age: Duration::from_secs(3) };
        (log, limits, at(6))
    }

    fn all() -> HistoryQuery {
        HistoryQuery { limit: 100, newest_first: true, start: 0, end: u64::MAX, epoch: None }
    }

    fn page(query: &HistoryQuery) -> (String, bool, bool) {
        let (log, limits, now) = pages();
        let page = log.page(query, limits, now).unwrap();
        assert_eq!((page.oldest, page.newest, page.kept, page.kept_bytes), (Some(3), 6, 4, 4));
        let texts = page.items.iter().map(|item| {
            assert_eq!(item.age, Duration::from_secs(6 - item.sequence));
            item.frame.as_text().unwrap().to_owned()
        });
        (texts.collect::<Vec<_>>().join(" "), page.has_more, page.is_truncated)
    }

    #[test]
    fn a_page_has_the_events_of_its_range_in_its_order() {
        let pages = [
            (all(), ("6 5 4 3", false, true)),
            (HistoryQuery { newest_first: false, ..all() }, ("3 4 5 6", false, true)),
            (HistoryQuery { limit: 3, ..all() }, ("6 5 4", true, true)),
            (HistoryQuery { limit: 4, ..all() }, ("6 5 4 3", false, true)),
            (HistoryQuery { start: 3, ..all() }, ("6 5 4 3", false, false)),
            (HistoryQuery { start: 2, ..all() }, ("6 5 4 3", false, true)),
            (HistoryQuery { start: 4, end: 5, ..all() }, ("5 4", false, false)),
            (HistoryQuery { start: 7, ..all() }, ("", false, false)),
            (HistoryQuery { start: 1, end: 1, ..all() }, ("", false, true)),
        ];
        for (query, (texts, has_more, is_truncated)) in pages {
            assert_eq!(page(&query), (texts.to_owned(), has_more, is_truncated), "{query:?}");
        }
    }

    #[test]
    fn sequences_of_another_log_have_no_page() {
        let (log, limits, now) = pages();
        let of = |epoch: &str| HistoryQuery { epoch: Some(epoch.into()), ..all() };
        assert!(log.page(&of("a"), limits, now).is_some());
        assert!(log.page(&of("b"), limits, now).is_none());
        let later = now + Duration::from_secs(60);
        let page = log.page(&all(), limits, later).unwrap();
        assert!(page.items.is_empty() && page.is_truncated && page.oldest.is_none());
    }
}
