//! The number of open pages. Those of apps leave room for the server's, and each app for the others.

use super::sessions::Scope;
use crate::permit::{Permit, Quota};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Maximum number of pages that show the whole server.
const OF_SERVER_MAX: usize = 8;
/// Maximum number of pages that show an app, of all apps and of one.
const OF_APPS_MAX: usize = 16;
const OF_APP_MAX: usize = 4;

/// The limits, and the pages that are open.
#[derive(Debug)]
pub(super) struct PageLimits {
    server: Arc<Quota>,
    apps: Arc<Quota>,
    by_app: Mutex<HashMap<String, Arc<Quota>>>,
}

/// The permit of a page; dropping it releases it.
#[derive(Debug)]
pub(super) struct PagePermit {
    _of_scope: Permit,
    _of_app: Option<Permit>,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self {
            server: Quota::new(OF_SERVER_MAX),
            apps: Quota::new(OF_APPS_MAX),
            by_app: Mutex::default(),
        }
    }
}

impl PageLimits {
    /// Takes a permit for a page; `None` at a limit.
    pub(super) fn try_acquire(&self, scope: &Scope) -> Option<PagePermit> {
        let Scope::App(id) = scope else {
            return Some(PagePermit { _of_scope: self.server.try_acquire()?, _of_app: None });
        };
        let mut apps = self.by_app.lock();
        apps.retain(|_, pages| 0 < pages.in_use());
        let app = apps.entry(id.clone()).or_insert_with(|| Quota::new(OF_APP_MAX)).try_acquire()?;
        Some(PagePermit { _of_scope: self.apps.try_acquire()?, _of_app: Some(app) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_leaves_room_for_others_and_apps_for_the_server() {
        let limits = PageLimits::default();
        let open = |id: &str| {
            let scope = Scope::App(id.to_owned());
            std::iter::from_fn(|| limits.try_acquire(&scope)).collect::<Vec<_>>()
        };
        let mut pages: Vec<_> = (0..10).map(|app| open(&app.to_string())).collect();
        let numbers: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(numbers, [4, 4, 4, 4, 0, 0, 0, 0, 0, 0]);
        let server: Vec<_> = std::iter::from_fn(|| limits.try_acquire(&Scope::Server)).collect();
        assert_eq!(server.len(), OF_SERVER_MAX);
        pages.remove(0);
        assert_eq!(open("another").len(), OF_APP_MAX);
        drop(pages);
        assert_eq!(open("another").len(), OF_APP_MAX);
        assert_eq!(limits.by_app.lock().len(), 1, "apps without pages are forgotten");
    }
}
