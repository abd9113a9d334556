//! A server's view of the hash slots of a Redis Cluster.

use super::{
    replies::{Bytes, ModelError, bulk},
    store::ModelStore,
};
use redis::Value;
use std::collections::BTreeMap;

/// A host and a port.
pub(crate) type Address = (String, u16);

const SLOTS: usize = 16_384;

/// The owner of each slot, according to one server.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    me: Address,
    owners: Vec<Option<Address>>,
    migrating: BTreeMap<u16, Address>,
    importing: BTreeMap<u16, Address>,
    /// The master of this server, if it is a replica.
    pub(crate) master: Option<Address>,
}

/// The slot of a key or a shard channel.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let tag = &key[open + 1..];
        tag.iter().position(|byte| *byte == b'}').filter(|len| 0 < *len).map(|len| &tag[..len])
    });
    let mut crc = 0u16;
    for byte in tagged.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % 16_384
}

impl Slots {
    /// An empty view, in which no slot has an owner.
    pub(crate) fn new(me: &Address) -> Self {
        Self {
            me: me.clone(),
            owners: vec![None; SLOTS],
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            master: None,
        }
    }

    /// The same view for another server.
    pub(crate) fn seen_from(&self, me: &Address) -> Self {
        Self { me: me.clone(), ..self.clone() }
    }

    /// The slots of a server.
    pub(crate) fn of<'a>(&'a self, owner: &'a Address) -> impl Iterator<Item = u16> + 'a {
        (0..16_384).filter(move |slot| self.owner(*slot) == Some(owner))
    }

    /// Sets the owner of a slot; a migration of the slot has ended.
    pub(crate) fn assign(&mut self, slot: u16, owner: Option<&Address>) {
        self.owners[usize::from(slot)] = owner.cloned();
        self.migrating.remove(&slot);
        self.importing.remove(&slot);
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        self.owners[usize::from(slot)].as_ref()
    }

    pub(crate) fn is_mine(&self, slot: u16) -> bool {
        self.owner(slot) == Some(&self.me)
    }

    pub(crate) fn migrate(&mut self, slot: u16, to: &Address) {
        self.migrating.insert(slot, to.clone());
    }

    pub(crate) fn import(&mut self, slot: u16, from: &Address) {
        self.importing.insert(slot, from.clone());
    }

    /// Fails if a command with these keys must be sent to another server, or retried.
    pub(super) fn check(
        &self,
        store: &mut ModelStore,
        keys: &[&Bytes],
        is_asking: bool,
        is_pubsub: bool,
    ) -> Result<(), ModelError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let slot = slot_of(first);
        if keys.iter().any(|key| slot_of(key) != slot) {
            return Err(ModelError::new("CROSSSLOT Keys in request don't hash to the same slot"));
        }
        let Some(owner) = self.owner(slot) else {
            return Err(ModelError::new("CLUSTERDOWN Hash slot not served"));
        };
        let is_mine = *owner == self.me;
        let (migrating, importing) = (self.migrating.get(&slot), self.importing.get(&slot));
        let mut existing = 0;
        if !is_pubsub && (migrating.is_some() || importing.is_some()) {
            existing = keys.iter().filter(|key| store.entry(key).is_some()).count();
        }
        let has_missing = !is_pubsub && existing < keys.len();
        let try_again =
            || ModelError::new("TRYAGAIN Multiple keys request during rehashing of slot");
        if let (true, Some((host, port))) = (is_mine, migrating)
            && has_missing
        {
            let ask = ModelError::new(format!("ASK {slot} {host}:{port}"));
            return Err(if existing == 0 { ask } else { try_again() });
        }
        if !is_mine && is_asking && importing.is_some() {
            let is_several = keys.iter().any(|key| key != first);
            return if is_several && has_missing { Err(try_again()) } else { Ok(()) };
        }
        // A replica accepts subscriptions to its master's shard channels.
        if is_mine || (is_pubsub && self.master.as_ref() == Some(owner)) {
            return Ok(());
        }
        let (host, port) = owner;
        Err(ModelError::new(format!("MOVED {slot} {host}:{port}")))
    }

    /// The reply to `CLUSTER SLOTS`, without replicas.
    pub(super) fn to_value(&self) -> Value {
        let mut ranges: Vec<(usize, usize, &Address)> = Vec::new();
        for (slot, owner) in self.owners.iter().enumerate() {
            let Some(owner) = owner else { continue };
            match ranges.last_mut() {
                Some((_, end, of)) if *end + 1 == slot && *of == owner => *end = slot,
                _ => ranges.push((slot, slot, owner)),
            }
        }
        let int = super::replies::int;
        let range = |(start, end, (host, port)): (usize, usize, &Address)| {
            let id = format!("{host}:{port}");
            let node = vec![
                bulk(host.as_str()),
                Value::Int(i64::from(*port)),
                bulk(id),
                Value::Array(Vec::new()),
            ];
            Value::Array(vec![int(start), int(end), Value::Array(node)])
        };
        Value::Array(ranges.into_iter().map(range).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        for (key, slot) in [
            ("foo", 12182),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
            ("123456789", 12739),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"{}a"), slot_of(b"{}b"));
    }
}
