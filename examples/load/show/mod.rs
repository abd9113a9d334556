//! The presentation of results, as text and as JSON.

pub(crate) mod judged;
pub(crate) mod markdown;
pub(crate) mod outcome;
pub(crate) mod svg;
