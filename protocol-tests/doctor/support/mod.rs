//! What the tests of the doctor share: proxies, certificates, an application, and a proxy that reads
//! WebSocket frames.

pub(crate) mod application;
pub(crate) mod certificates;
pub(crate) mod frames;
pub(crate) mod proxies;
