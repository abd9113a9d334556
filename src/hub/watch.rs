//! Watching the events of a channel without being a subscriber: for the console.
//!
//! Nothing is watched most of the time, which costs a publish one relaxed load.

use crate::protocol::{ChannelName, Frame, SocketId};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::mpsc;

/// The channels of all apps that are watched on this node.
#[derive(Debug, Default)]
pub struct ChannelWatches {
    is_active: AtomicBool,
    /// Publishes of all threads read it, so it is replaced and not locked.
    watches: ArcSwap<Vec<Arc<ChannelWatch>>>,
    /// Held while it is replaced.
    changing: Mutex<()>,
    ids: AtomicU64,
}

#[derive(Debug)]
struct ChannelWatch {
    id: u64,
    app_id: Arc<str>,
    channel: ChannelName,
    events: mpsc::Sender<WatchedEvent>,
    missed: Arc<AtomicU64>,
}

/// An event of a watched channel.
#[derive(Clone, Debug)]
pub struct WatchedEvent {
    /// The event, as subscribers receive it.
    pub frame: Frame,
    /// The connection that does not receive it; of a client event, the one that sent it.
    pub except: Option<SocketId>,
}

/// Receives the events of a channel. Dropping it ends the watch.
#[derive(Debug)]
pub struct ChannelWatcher {
    id: u64,
    watches: Arc<ChannelWatches>,
    events: mpsc::Receiver<WatchedEvent>,
    missed: Arc<AtomicU64>,
}

/// Maximum number of events that wait for a watcher; further ones are counted and dropped.
const EVENTS_MAX: usize = 64;

impl ChannelWatches {
    /// Whether any channel of any app is watched.
    #[inline]
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Watches a channel of an app.
    #[must_use]
    pub fn watch(self: &Arc<Self>, app_id: Arc<str>, channel: ChannelName) -> ChannelWatcher {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (id, missed) = (self.ids.fetch_add(1, Ordering::Relaxed), Arc::<AtomicU64>::default());
        let counted = Arc::clone(&missed);
        let watch = ChannelWatch { id, app_id, channel, events: sender, missed: counted };
        self.change(|watches| watches.push(Arc::new(watch)));
        ChannelWatcher { id, watches: Arc::clone(self), events, missed }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<ChannelWatch>>)) {
        let _changing = self.changing.lock();
        let mut watches = Vec::clone(&self.watches.load());
        change(&mut watches);
        self.is_active.store(!watches.is_empty(), Ordering::Relaxed);
        self.watches.store(Arc::new(watches));
    }

    /// Gives an event to the watchers of its channel. Never waits for them. Called if
    /// [`ChannelWatches::is_active`].
    #[cold]
    pub fn event(
        &self,
        app_id: &str,
        channel: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
    ) {
        for watch in self.watches.load().iter() {
            if *watch.app_id == *app_id && watch.channel == *channel {
                let event = WatchedEvent { frame: frame.clone(), except };
                if watch.events.try_send(event).is_err() {
                    watch.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl ChannelWatcher {
    /// The next event. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchedEvent> {
        self.events.recv().await
    }

    /// The number of events that were dropped since the last call.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for ChannelWatcher {
    fn drop(&mut self) {
        self.watches.change(|watches| watches.retain(|watch| watch.id != self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FrameKind;
    use futures_util::FutureExt;

    #[test]
    fn a_watcher_receives_the_events_of_its_channel_within_a_bound() {
        let all = Arc::new(ChannelWatches::default());
        assert!(!all.is_active());
        let name = |text| ChannelName::parse(text, 200).unwrap();
        let mut watcher = all.watch("1".into(), name("a"));
        let other = all.watch("2".into(), name("a"));
        assert!(all.is_active());
        let frame = Frame::text(FrameKind::Event, "x");
        all.event("1", &name("b"), &frame, None);
        all.event("1", &name("a"), &frame, Some(SocketId::from_random(7)));
        let event = watcher.next().now_or_never().flatten().unwrap();
        assert_eq!(event.except, Some(SocketId::from_random(7)));
        assert!(watcher.next().now_or_never().is_none(), "one event was for it");
        for _ in 0..EVENTS_MAX + 3 {
            all.event("1", &name("a"), &frame, None);
        }
        assert_eq!((watcher.take_missed(), watcher.take_missed()), (3, 0));
        drop(watcher);
        assert!(all.is_active(), "the other goes on");
        drop(other);
        assert!(!all.is_active());
    }
}
