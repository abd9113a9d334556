//! Partitions: parts of the key space whose keys share a hash tag, so that one script may use all of them.
//!
//! A Redis Cluster has [`PARTITIONS`], spread evenly over its slots. A single Redis has one, and
//! ignores hash tags.

use std::fmt;

/// The number of partitions of a Redis Cluster. A power of two that is large enough to balance the
/// masters of a large cluster, and small enough for a node to visit all of them when it joins.
pub(super) const PARTITIONS: usize = 256;

/// One partition, by its number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(in crate::broker::redis) struct Partition(u8);

/// The hash tag of each partition: the smallest number whose CRC16 is in the partition's 64 of the
/// 16,384 slots.
#[rustfmt::skip]
const TAGS: [u16; PARTITIONS] = [
    460, 14, 278, 10, 274, 100, 270, 18, 113, 267, 117, 263, 346, 473, 342, 477,
    131, 245, 29, 241, 25, 451, 21, 249, 3, 36, 7, 32, 256, 122, 252, 126,
    201, 69, 205, 171, 209, 61, 411, 65, 72, 406, 76, 402, 166, 212, 162, 216,
    50, 238, 54, 420, 58, 230, 140, 234, 223, 157, 227, 153, 437, 43, 433, 47,
    461, 15, 279, 11, 275, 101, 271, 19, 112, 266, 116, 262, 347, 472, 343, 476,
    130, 244, 28, 240, 24, 450, 20, 248, 2, 37, 6, 33, 257, 123, 253, 127,
    200, 68, 204, 170, 208, 60, 410, 64, 73, 407, 77, 403, 167, 213, 163, 217,
    51, 239, 55, 421, 59, 231, 141, 235, 222, 156, 226, 152, 436, 42, 432, 46,
    16, 462, 12, 466, 102, 276, 106, 272, 265, 111, 261, 115, 471, 119, 269, 340,
    247, 133, 243, 137, 453, 27, 457, 23, 34, 1, 30, 5, 120, 9, 38, 250,
    177, 203, 173, 207, 63, 417, 67, 413, 218, 70, 400, 74, 210, 78, 214, 160,
    426, 52, 422, 56, 232, 146, 236, 142, 49, 221, 151, 225, 41, 229, 45, 431,
    17, 463, 13, 467, 103, 277, 107, 273, 264, 110, 260, 114, 470, 118, 268, 341,
    246, 132, 242, 136, 452, 26, 456, 22, 35, 0, 31, 4, 121, 8, 39, 251,
    176, 202, 172, 206, 62, 416, 66, 412, 219, 71, 401, 75, 211, 79, 215, 161,
    427, 53, 423, 57, 233, 147, 237, 143, 48, 220, 150, 224, 40, 228, 44, 430,
];

impl Partition {
    /// The *lease partition*: it has the leases and the control channel.
    pub(in crate::broker::redis) const LEASES: Self = Self(0);

    /// The partition of a name, among `count` of them.
    pub(in crate::broker::redis) fn for_name(name: &[&[u8]], count: usize) -> Self {
        let crc = name.iter().fold(0, |crc, part| crc16(crc, part));
        Self(
            u8::try_from(usize::from(crc) % count.min(PARTITIONS)).expect("the count fits into u8"),
        )
    }

    /// The first `count` partitions.
    pub(in crate::broker::redis) fn all(
        count: usize,
    ) -> impl ExactSizeIterator<Item = Self> + Clone {
        (0..count.min(PARTITIONS))
            .map(|number| Self(u8::try_from(number).expect("the count fits into u8")))
    }

    /// Its position in a list of all partitions.
    pub(in crate::broker::redis) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its position in an order in which neighbours are far apart, and so on different masters.
    pub(in crate::broker::redis) fn scan_order(self) -> u8 {
        self.0.reverse_bits()
    }

    /// Its hash tag: the number between braces in the names of its keys.
    pub(in crate::broker::redis) fn tag(self) -> u16 {
        TAGS[self.index()]
    }

    /// Its hash slot in a Redis Cluster.
    pub(in crate::broker::redis) fn slot(self) -> u16 {
        crc16(0, self.tag().to_string().as_bytes()) % 16_384
    }

    /// The partition with this tag, in decimal digits.
    pub(in crate::broker::redis) fn from_tag(tag: &str) -> Option<Self> {
        let parsed: u16 = tag.parse().ok()?;
        let number = TAGS.iter().position(|known| *known == parsed)?;
        // Only the canonical spelling: otherwise two names would denote one partition.
        if parsed.to_string() != tag {
            return None;
        }
        Some(Self(u8::try_from(number).expect("the count fits into u8")))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tag().fmt(f)
    }
}

/// The CRC16 by which a Redis Cluster assigns keys to slots (polynomial 0x1021, XMODEM), continued
/// from `crc`.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_matches_the_specification() {
        assert_eq!(crc16(0, b"123456789"), 0x31C3);
        assert_eq!(crc16(crc16(0, b"1234"), b"56789"), 0x31C3);
    }

    #[test]
    fn each_partition_has_its_own_sixty_four_slots() {
        for (number, partition) in Partition::all(PARTITIONS).enumerate() {
            assert_eq!(usize::from(partition.slot()) / 64, number, "{partition}");
            assert_eq!(Partition::from_tag(&partition.to_string()), Some(partition));
        }
    }

    #[test]
    fn names_are_spread_evenly() {
        let mut counts = [0; PARTITIONS];
        for channel in 0..256_000 {
            let name = format!("private-order.{channel}");
            counts[Partition::for_name(&[b"app:", name.as_bytes()], PARTITIONS).index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(Partition::for_name(&[b"anything"], 1), Partition::LEASES);
    }

    #[test]
    fn neighbours_in_the_spread_order_are_far_apart() {
        let mut partitions: Vec<_> = Partition::all(PARTITIONS).collect();
        partitions.sort_by_key(|partition| partition.scan_order());
        let neighbours = partitions.windows(2);
        assert!(neighbours.into_iter().all(|two| 64 <= two[0].index().abs_diff(two[1].index())));
        assert_eq!(Partition::all(9_999).len(), PARTITIONS);
    }

    #[test]
    fn a_tag_has_one_spelling() {
        assert_eq!(Partition::from_tag("14").map(Partition::index), Some(1));
        for other in ["014", "+14", " 14", "", "99999", "9999"] {
            assert_eq!(Partition::from_tag(other), None, "{other:?}");
        }
    }
}
