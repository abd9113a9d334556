//! What nodes know of the clients with a token of one another.

use crate::{channel::ParkedSession, protocol::SocketId};
use std::{fmt, time::Instant};

/// Where a client of a cluster is connected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The name of the node's process.
    pub process: String,
    /// A number that the process uses for one client, from its return until it is lost.
    pub number: u64,
}

/// What is known of a client at its handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FoundClient {
    /// Nothing.
    Unknown,
    /// The socket id of its previous connection, to any node.
    Known(SocketId),
    /// Several clients use its token: their connections take over from one another too often.
    Shared,
    /// Redis did not answer: whether the client was connected is found out later.
    Unavailable,
}

/// How a connection claims the place of its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// With the socket id that the client's record has.
    Known,
    /// With a socket id of its own, since the client could not be looked up.
    Adopt,
    /// As `Adopt`, for a connection that has had no reply, and has gone on without a claim: when it claimed its place. A claim since
    /// then stays.
    Late(Instant),
}

/// What a connection finds in the record of its client.
#[derive(Debug)]
pub enum ClientRecord {
    /// There was none.
    New,
    /// The client was connected here, and that connection may still be open.
    Connected(Place),
    /// What the previous connection, in this place, has left.
    Parked(Box<ParkedSession>, Place),
    /// Another connection has the token, with another socket id.
    OtherSocket,
    /// The client was connected here since: the late claim came to nothing.
    Later(Place),
}

impl Place {
    /// Reads what `Display` has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (process, number) = text.rsplit_once('.')?;
        Some(Self { process: process.to_owned(), number: number.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place { process: "0a1b2c".into(), number: 17 };
        assert_eq!(place.to_string(), "0a1b2c.17");
        assert_eq!(Place::parse("0a1b2c.17"), Some(place));
        for other in ["", "0a1b2c", "0a1b2c.", "0a1b2c.x"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
