//! The `info` attributes of a channel.

use crate::{channel::Counts, protocol::ChannelName};
use std::fmt::Write;

/// The requested attributes. The app's `subscription_count` setting makes no difference here: the
/// API always returns the count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct RequestedInfo {
    pub(super) user_count: bool,
    pub(super) subscription_count: bool,
    /// The last event of a cache channel. Returned by the query of one channel only.
    pub(super) cache: bool,
}

impl RequestedInfo {
    /// All attributes, for the error about an unknown one.
    pub(super) const KNOWN: &str = "user_count, subscription_count, cache";

    /// Parses a comma-separated list of attributes. False if one of them is unknown.
    pub(super) fn parse(list: &str) -> (Self, bool) {
        let (mut info, mut all_known) = (Self::default(), true);
        for attribute in list.split(',').map(str::trim).filter(|attribute| !attribute.is_empty()) {
            match attribute {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => all_known = false,
            }
        }
        (info, all_known)
    }

    /// Writes the requested counts that the channel has, as comma-separated members of a JSON
    /// object.
    pub(super) fn write_counts(self, name: &ChannelName, counts: Counts, json: &mut String) {
        let has_users = self.user_count && name.is_presence();
        if has_users {
            append(json, format_args!(r#""user_count":{}"#, counts.users));
        }
        if self.subscription_count {
            let comma = if has_users { "," } else { "" };
            append(json, format_args!(r#"{comma}"subscription_count":{}"#, counts.subscriptions));
        }
    }
}

/// Writes an object with a member for each channel, whose value is an object of its counts.
///
/// Written without a tree of values: there may be a hundred thousand channels, and this thread
/// delivers nothing meanwhile. A channel's name has no character that JSON escapes.
pub(super) fn channels<'a>(
    each: impl Iterator<Item = (&'a ChannelName, Counts)>,
    info: RequestedInfo,
) -> String {
    let mut json = String::from(r#"{"channels":{"#);
    for (at, (name, counts)) in each.enumerate() {
        json.extend([if at == 0 { "\"" } else { ",\"" }, name.as_str(), "\":{"]);
        info.write_counts(name, counts, &mut json);
        json.push('}');
    }
    json.push_str("}}");
    json
}

fn append(json: &mut String, more: std::fmt::Arguments<'_>) {
    json.write_fmt(more).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_parsed_in_any_order_and_with_spaces() {
        let all = RequestedInfo { user_count: true, subscription_count: true, cache: true };
        assert_eq!(
            RequestedInfo::parse(" cache,user_count ,,subscription_count,cache"),
            (all, true)
        );
        assert_eq!(RequestedInfo::parse(""), (RequestedInfo::default(), true));
        let users = RequestedInfo { user_count: true, ..RequestedInfo::default() };
        assert_eq!(RequestedInfo::parse("user_count,users"), (users, false));
    }

    #[test]
    fn only_counts_that_the_channel_has_are_written() {
        let counts = Counts { subscriptions: 3, users: 2 };
        for (name, list, expected) in [
            (
                "presence-a",
                "user_count,subscription_count",
                r#""user_count":2,"subscription_count":3"#,
            ),
            ("presence-a", "user_count", r#""user_count":2"#),
            ("a", "user_count,subscription_count", r#""subscription_count":3"#),
            ("a", "user_count,cache", ""),
        ] {
            let name = ChannelName::parse(name, 200).unwrap();
            let mut json = String::new();
            RequestedInfo::parse(list).0.write_counts(&name, counts, &mut json);
            assert_eq!(json, expected, "{name} {list}");
        }
    }

    #[test]
    fn a_list_of_channels_is_one_object() {
        let names = ["presence-a", "b", "c"].map(|name| ChannelName::parse(name, 200).unwrap());
        let counts = Counts { subscriptions: 3, users: 2 };
        let list = |count: usize, attributes: &str| {
            let each = names[..count].iter().map(|name| (name, counts));
            channels(each, RequestedInfo::parse(attributes).0)
        };
        assert_eq!(list(0, "user_count"), r#"{"channels":{}}"#);
        assert_eq!(list(1, ""), r#"{"channels":{"presence-a":{}}}"#);
        assert_eq!(
            list(3, "user_count"),
            r#"{"channels":{"presence-a":{"user_count":2},"b":{},"c":{}}}"#
        );
    }
}
