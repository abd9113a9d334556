//! Redis Cluster: moving slots and failovers.

use super::{Network, NetworkState, host::HostId};
use crate::broker::redis::simulation::model::slots::{Address, Slots, slot_of};
use rand::RngExt as _;

const SLOTS: u16 = 16_384;

impl Network {
    /// Forms a Redis Cluster of added servers, with equal shares of the slots.
    pub(crate) fn make_cluster(&self, addresses: &[(&str, u16)]) {
        let mut state = self.lock();
        let addresses: Vec<Address> =
            addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        for address in &addresses {
            let mut slots = Slots::new(address);
            for slot in 0..SLOTS {
                let owner = usize::from(slot) * addresses.len() / usize::from(SLOTS);
                slots.assign(slot, Some(&addresses[owner]));
            }
            let id = state.addresses[address];
            *state.hosts[id].server.slots() = Some(slots);
        }
    }

    /// The slots of a server, according to that server.
    pub(crate) fn slots_of(&self, host: &str, port: u16) -> Vec<u16> {
        let mut state = self.lock();
        let id = state.host_at(host, port);
        let address = state.hosts[id].address.clone();
        state.slots(id).of(&address).collect()
    }

    /// Begins to move a slot: requests for keys that the owner no longer has are redirected to the other server.
    pub(crate) fn begin_migration(&self, slot: u16, to: (&str, u16)) {
        let mut state = self.lock();
        let (from, to) = state.ends(slot, to);
        let (from_address, to_address) =
            (state.hosts[from].address.clone(), state.hosts[to].address.clone());
        state.slots(to).import(slot, &from_address);
        state.slots(from).migrate(slot, &to_address);
    }

    /// Moves one key of a slot that is being moved. Returns whether there was one left.
    pub(crate) fn move_key(&self, slot: u16, to: (&str, u16)) -> bool {
        let mut state = self.lock();
        let (from, to) = state.ends(slot, to);
        state.move_key(slot, from, to)
    }

    /// Moves the remaining keys of a slot and ends the move. The two servers and those in `informed` get the new owner
    /// at once; the others get it from [`Network::set_slots`].
    pub(crate) fn finish_migration(&self, slot: u16, to: (&str, u16), informed: &[(&str, u16)]) {
        self.change(|state| {
            let (from, to) = state.ends(slot, to);
            while state.move_key(slot, from, to) {}
            let address = state.hosts[to].address.clone();
            let informed = informed.iter().map(|(host, port)| state.host_at(host, *port));
            for id in informed.chain([to, from]).collect::<Vec<_>>() {
                state.slots(id).assign(slot, Some(&address));
            }
            state.drop_lost_channels(from);
        });
    }

    /// Copies the view of the slots from one server to another.
    pub(crate) fn set_slots(&self, host: &str, port: u16, from: (&str, u16)) {
        self.change(|state| {
            let (id, from) = (state.host_at(host, port), state.host_at(from.0, from.1));
            let address = state.hosts[id].address.clone();
            let master = state.slots(id).master.clone();
            let mut seen = state.slots(from).seen_from(&address);
            seen.master = master;
            *state.slots(id) = seen;
            state.drop_lost_channels(id);
        });
    }

    /// Makes a server without slots a replica of another, as Redis does with a server that has lost its last slot.
    pub(crate) fn make_replica(&self, host: &str, port: u16, master: (&str, u16)) {
        self.change(|state| {
            let (id, master) = (state.host_at(host, port), state.host_at(master.0, master.1));
            let address = state.hosts[master].address.clone();
            state.slots(id).master = Some(address);
            state.hosts[master].replicas.push(id);
        });
    }

    /// Has another server, without the last `lost` writes, take over all slots of a master. The old master may keep
    /// running and consider itself the owner until it receives the new view.
    pub(crate) fn cluster_failover(
        &self,
        from: (&str, u16),
        to: (&str, u16),
        lost: usize,
        dies: bool,
    ) {
        self.change(|state| {
            let master = state.host_at(from.0, from.1);
            let (from, to) = (state.hosts[master].address.clone(), (to.0.to_owned(), to.1));
            let seed = state.random.random();
            let mut server = state.hosts[master].server.successor(seed, Some(lost));
            let moved: Vec<u16> = server.slots().as_ref().expect("a cluster").of(&from).collect();
            let mut slots = server.slots().as_ref().expect("a cluster").seen_from(&to);
            for slot in &moved {
                slots.assign(*slot, Some(&to));
            }
            *server.slots() = Some(slots);
            if let Some(former) = state.addresses.get(&to).copied() {
                state.kill(former);
            }
            let offset_us = state.hosts[master].offset_us;
            let replica = state.add_host(server, to.clone());
            state.hosts[replica].offset_us = offset_us;
            for id in state.addresses.values().copied().collect::<Vec<_>>() {
                for slot in moved.iter().filter(|_| id != master) {
                    state.slots(id).assign(*slot, Some(&to));
                }
            }
            if dies {
                state.kill(master);
            }
        });
    }
}

impl NetworkState {
    fn slots(&mut self, id: HostId) -> &mut Slots {
        self.hosts[id].server.slots().as_mut().expect("a server of a Redis Cluster")
    }

    /// The owner of a slot, and the server at an address.
    fn ends(&mut self, slot: u16, to: (&str, u16)) -> (HostId, HostId) {
        let to = self.host_at(to.0, to.1);
        let owner = self.slots(to).owner(slot).cloned().expect("a slot with a server");
        (self.addresses[&owner], to)
    }

    fn move_key(&mut self, slot: u16, from: HostId, to: HostId) -> bool {
        let (now_from, now_to) = (self.now_us(from), self.now_us(to));
        let keys = self.hosts[from].server.keys(now_from);
        let Some(key) = keys.into_iter().find(|key| slot_of(key) == slot) else { return false };
        let Some(mut entry) = self.hosts[from].server.take(now_from, &key) else { return false };
        // The remaining time to live moves, since the clocks may differ.
        entry.expires_ms =
            entry.expires_ms.map(|at| at.saturating_sub(now_from / 1_000) + now_to / 1_000);
        self.hosts[to].server.put(now_to, &key, entry);
        true
    }

    fn drop_lost_channels(&mut self, id: HostId) {
        self.hosts[id].server.drop_lost_channels();
        let pushes = self.hosts[id].server.take_pushes();
        self.push_all(id, pushes);
    }
}
