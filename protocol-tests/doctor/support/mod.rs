pub(crate) mod certificates;
pub(crate) mod proxies;
