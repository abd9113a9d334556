//! The text of the Lua scripts (`lua/`), as Redis gets it.
//!
//! The tests that call the scripts directly compile this file as well, so it uses nothing else of the crate.

/// Bytes that an entry of a log or queue counts in addition to its own.
pub(crate) const OVERHEAD_BYTES: usize = 64;

/// Maximum bytes of an app's webhook log: about 300,000 changes of occupancy. Nodes normally read it within a
/// second, so the limit only matters while no node delivers.
pub(crate) const LOG_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// How long the hash of a vacated topic is kept, in ms. A node that returns within that time can find
/// out whether it has missed something.
const TOMBSTONE_MS: usize = 60_000;

/// Maximum bytes of the log of one channel.
const CHANNEL_LOG_BYTES: usize = 1024 * 1024;

/// Bytes that a log counts in addition to its events, until it is gone: the first block of its stream, the hash of the channel, and
/// the entries in the indexes. 10,000 logs of one event of 100 bytes, which count 164 each, take 51 MB of `used_memory` (Redis 7.0).
const CHANNEL_LOG_OVERHEAD: usize = 5_000;

/// Maximum bytes of the logs of all channels of a partition: of a single Redis, and of a Redis Cluster, which has 256.
pub(super) const CHANNEL_LOGS_BYTES: [usize; 2] = [64 * 1024 * 1024, 2 * 1024 * 1024];

/// How long the indexes of the logs of a partition are kept after an event was logged: longer than any log has events, in ms.
const LOGS_INDEX_MS: usize = 172_800_000;

/// How long after the removal of a node from the registry Redis may lose data of the time before, in ms. What that node has
/// received is not reported to Redis any more.
const REMOVED_NODE_MS: usize = 600_000;

/// How long the list of a node's topics is kept, in ms, unless the node compares it with what it
/// holds. If the node dies while Redis loses its registration, no node cleans the list up.
const TOPIC_LIST_TTL_MS: usize = 600_000;

/// Maximum ids of a channel's recent events that are kept, to recognise duplicates.
const RECENT_IDS_MAX: usize = 4_096;

/// How long the record of a publish with an idempotency key is kept, in ms: `IDEMPOTENCY_WINDOW` of the broker.
const PUBLISH_RECORD_MS: usize = 120_000;

/// How long the record of a client with a token is kept after it was lost, or renewed: a night in which a laptop sleeps, in ms.
const CLIENT_RECORD_MS: usize = 86_400_000;

/// How often living connections of one client may take over from one another: this many times, and once more after each
/// `TAKEOVER_MS`. A page that is suspended and woken needs few. More means that several pages use one token.
const TAKEOVERS: usize = 20;
const TAKEOVER_MS: usize = 6_000;

/// How long the log of a partition and the last number of its records are kept after the last
/// addition, in ms.
const LOG_TTL_MS: usize = 86_400_000;

/// The parts that scripts include, by their placeholders.
pub(super) const INCLUDES: [(&str, &str); 4] = [
    ("@FENCING@", include_str!("lua/fencing.lua")),
    ("@LOG@", include_str!("lua/log.lua")),
    ("@PUBLISHING@", include_str!("lua/publish.lua")),
    ("@CHANNEL_LOG@", include_str!("lua/channel_log.lua")),
];

/// The text of a script with its parts and constants. A Redis Cluster publishes in the slot's own node.
pub(super) fn assembled(script: &str, parts: &[(&str, &str)], is_redis_cluster: bool) -> String {
    let with_parts =
        parts.iter().fold(script.to_owned(), |text, (name, part)| text.replace(name, part));
    // A script within another one uses what that one includes.
    let with_parts = with_parts.replace("@FENCING@", "");
    let constants = [
        ("@TOMBSTONE_MS@", TOMBSTONE_MS),
        ("@TOPIC_LIST_TTL_MS@", TOPIC_LIST_TTL_MS),
        ("@LOGS_INDEX_MS@", LOGS_INDEX_MS),
        ("@REMOVED_NODE_MS@", REMOVED_NODE_MS),
        ("@CHANNEL_LOG_BYTES@", CHANNEL_LOG_BYTES),
        ("@CHANNEL_LOG_OVERHEAD@", CHANNEL_LOG_OVERHEAD),
        ("@CHANNEL_LOGS_BYTES@", CHANNEL_LOGS_BYTES[usize::from(is_redis_cluster)]),
        ("@OVERHEAD@", OVERHEAD_BYTES),
        ("@LOG_BYTES@", LOG_BYTES_MAX),
        ("@LOG_TTL_MS@", LOG_TTL_MS),
        ("@RECENT_IDS_MAX@", RECENT_IDS_MAX),
        ("@PUBLISH_RECORD_MS@", PUBLISH_RECORD_MS),
        ("@CLIENT_RECORD_MS@", CLIENT_RECORD_MS),
        ("@TAKEOVERS@", TAKEOVERS),
        ("@TAKEOVER_MS@", TAKEOVER_MS),
    ];
    constants
        .iter()
        .fold(with_parts, |text, (name, number)| text.replace(name, &number.to_string()))
        .replace("@PUBLISH@", if is_redis_cluster { "SPUBLISH" } else { "PUBLISH" })
}
