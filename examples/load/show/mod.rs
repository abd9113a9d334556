//! What was found out, for people and for machines.

pub(crate) mod judged;
pub(crate) mod markdown;
pub(crate) mod outcome;
pub(crate) mod svg;
