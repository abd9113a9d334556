//! What happens to all topics of this node: when apps are replaced, the node registers, joins or
//! leaves, and the link is lost.

use super::Topics;
use crate::{
    broker::redis::{
        partition::Partition,
        topic::{Effect, Topic},
    },
    hub::Hub,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

impl Topics {
    /// Replaces the apps, and applies their settings to the topics.
    pub(in crate::broker::redis) fn set_apps(&mut self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        self.removed_apps.extend(self.hubs.keys().cloned());
        self.removed_apps.retain(|app_id| !hubs.contains_key(app_id));
        self.hubs.extend(hubs);
        for topic in self.all.values_mut() {
            if let Some(hub) = self.hubs.get(&topic.name.app_id) {
                topic.set_config(&hub.app().config);
            }
        }
    }

    /// Adds an app, or replaces it, and applies its settings to its topics.
    pub(in crate::broker::redis) fn set_app(&mut self, hub: Arc<Hub>) {
        let app_id = hub.app_id();
        self.removed_apps.remove(&app_id);
        for topic in self.all.values_mut().filter(|topic| topic.name.app_id == app_id) {
            topic.set_config(&hub.app().config);
        }
        self.hubs.insert(app_id, hub);
    }

    /// Removes an app, once it has no topics.
    pub(in crate::broker::redis) fn remove_app(&mut self, app_id: Arc<str>) {
        if self.hubs.contains_key(&app_id) {
            self.removed_apps.insert(app_id);
        }
    }

    /// Removes deleted apps without topics.
    pub(in crate::broker::redis) fn remove_retired_apps(&mut self) {
        let topics = &self.all;
        let is_left = |app_id: &Arc<str>| topics.values().any(|left| left.name.app_id == *app_id);
        let hubs = &mut self.hubs;
        self.removed_apps.retain(|app_id| is_left(app_id) || hubs.remove(app_id).is_none());
    }

    /// Schedules a sync of everything that this node has.
    pub(in crate::broker::redis) fn sync_all(&mut self) {
        self.all.keys().for_each(|name| self.scheduler.add(name));
        self.unsynced = self.all.keys().cloned().collect();
    }

    /// Whether every topic is synced since the node has registered.
    pub(in crate::broker::redis) fn all_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Ends all subscriptions. Returns whether everything is withdrawn.
    pub(in crate::broker::redis) fn withdraw_all(&mut self) -> bool {
        for topic in self.all.values_mut() {
            topic.end_grace_periods();
        }
        for (name, _) in self.all.iter().filter(|(_, topic)| !topic.is_withdrawn()) {
            self.scheduler.add(name);
        }
        !self.has_work()
    }

    /// Redis has nothing of this node under its new name.
    pub(in crate::broker::redis) fn forget_acknowledgements(&mut self) {
        self.all.values_mut().for_each(Topic::forget_acknowledged);
    }

    /// Redis may have lost the data of these partitions.
    pub(in crate::broker::redis) fn mark_data_lost(&mut self, changed: &BTreeSet<Partition>) {
        for topic in self.all.values_mut().filter(|topic| changed.contains(&topic.partition)) {
            topic.mark_data_lost();
        }
    }

    /// Subscribes to and reads all topics of a partition again, after its server has changed or has
    /// ended a subscription.
    pub(in crate::broker::redis) fn on_moved(&mut self, partition: Partition) {
        for (name, topic) in &mut self.all {
            if topic.partition == partition {
                topic.reset();
                self.scheduler.add(name);
            }
        }
    }

    /// Everything is synced and read again over the next link.
    pub(in crate::broker::redis) fn reset_all(&mut self) {
        self.all.values_mut().for_each(Topic::reset);
    }

    /// There is no link any more: nothing is in flight.
    pub(in crate::broker::redis) fn on_disconnected(&mut self) {
        self.in_flight.clear();
        self.unsynced.clear();
    }

    /// Reads provisional topics again, once all other nodes have synced.
    pub(in crate::broker::redis) fn refresh_provisional(&mut self) {
        for (name, topic) in &mut self.all {
            if topic.end_provisional() {
                self.scheduler.add(name);
            }
        }
    }

    /// Closes the connections of subscribers that may have missed events, except in the `unaffected`
    /// partitions.
    pub(in crate::broker::redis) fn resubscribe(&mut self, unaffected: &BTreeSet<Partition>) {
        for name in std::mem::take(&mut self.unverified) {
            let partition = self.all.get(&name).map(|topic| topic.partition);
            if partition.is_some_and(|partition| !unaffected.contains(&partition)) {
                self.apply_effects(&name, vec![Effect::ForceResubscribe], false);
            }
        }
    }

    /// Records that the subscribers of a topic may have missed events.
    #[cfg(test)]
    pub(in crate::broker::redis) fn mark_unverified(&mut self, name: &Arc<str>) {
        self.unverified.push(Arc::clone(name));
    }
}
