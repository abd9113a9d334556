//! What the null columns of a table of apps mean.

use super::{value_source::CompatServer, variables::Variables};
use std::fmt;

/// The index of the app of a row in a raw configuration. It is not that of the app in variables of soketi.
pub(super) const INDEX: usize = 1;

/// What a null or missing column means: the limits for all apps in another server's variables, and that
/// server's defaults.
#[derive(Clone, Default, PartialEq)]
pub struct RowDefaults {
    pub(super) variables: Variables,
    pub(super) compat: Option<CompatServer>,
}

/// Shows no values: they may be secrets.
impl fmt::Debug for RowDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowDefaults").field("compat", &self.compat).finish_non_exhaustive()
    }
}

impl RowDefaults {
    /// The defaults of a configuration with these variables and these defaults for its apps.
    pub(super) fn new(variables: &Variables, compat: Option<CompatServer>) -> Self {
        match compat {
            Some(CompatServer::Soketi) => Self { variables: variables.for_app(INDEX, &[]), compat },
            Some(CompatServer::Reverb) | None => Self::default(),
        }
    }
}
