//! How settings are declared, and what is generated from the declarations.
//!
//! The sections in `settings` and `app` declare each setting once, as a field of a struct: its
//! documentation, type, default, rule and time of effect. The struct, its defaults and a
//! [`Setting`] are made from that, and from the declarations everything else: reading and
//! checking values, names of variables, suggestions, what a reload changes, `config.toml`,
//! `docs/configuration.md`, the JSON Schema.

use super::kind::ValueKind;
use ipnet::IpNet;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A declared setting: how its values are read, checked, shown and documented.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// The key, with `[]` for the index of an app or a webhook.
    pub(super) key: &'static str,
    /// The lines of the documentation, in Markdown. Documents are cited by their path from the root.
    pub(super) doc: &'static [&'static str],
    /// The kind of values.
    pub(super) kind: ValueKind,
    /// The rule for values.
    pub(super) rule: Rule,
    /// Keys whose values this one must not be below.
    pub(super) at_least: &'static [&'static str],
    /// What a reloaded value applies to.
    pub(super) reload: AppliesTo,
    /// What an integer counts, if the end of the name does not show it.
    pub(super) unit: Option<&'static str>,
    /// Whether the value is masked wherever it is shown.
    pub(super) is_secret: bool,
    /// Whether it has no default and must be set.
    pub(super) is_required: bool,
    /// A value in TOML for the documentation of settings without a useful default.
    pub(super) example: Option<&'static str>,
    /// The default beside Reverb's variables in TOML, if it differs.
    pub(super) reverb: Option<&'static str>,
    /// The default beside soketi's variables in TOML, if it differs.
    pub(super) soketi: Option<&'static str>,
}

/// The rule for the values of a setting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// No rule beyond the type. The text describes the values, if there is something to say.
    Any(&'static str),
    /// The minimum and the maximum of an integer.
    Range(i64, i64),
    /// The allowed strings, in a list for each element.
    OneOf(&'static [&'static str]),
    /// A function that validates and normalizes a string, in a list each element, and its description.
    Parse(Normalize, &'static str),
    /// A check of a table, and its description.
    Table(fn(&Table) -> Result<(), String>, &'static str),
}

/// Normalizes a string, or returns the error message.
pub(super) type Normalize = fn(&str) -> Result<String, &'static str>;

/// What the next value applies to after a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AppliesTo {
    AtOnce,
    NewConnections,
    NewHandshakes,
    NewMessages,
    NewRequests,
    NextShutdown,
    /// Nothing: only a restart applies it.
    Restart,
}

impl Rule {
    /// What the values are, in words; empty if there is nothing to say.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Any(values) | Self::Parse(_, values) | Self::Table(_, values) => values,
            Self::Range(..) | Self::OneOf(_) => "",
        }
    }
}

impl AppliesTo {
    /// The name in the documentation.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::NewConnections => "new connections",
            Self::NewHandshakes => "new handshakes",
            Self::NewMessages => "new messages",
            Self::NewRequests => "new requests",
            Self::NextShutdown => "next shutdown",
            Self::Restart => "restart",
        }
    }
}

impl Setting {
    /// A setting with the attributes that most have.
    pub(super) const fn new(
        key: &'static str,
        doc: &'static [&'static str],
        kind: ValueKind,
    ) -> Self {
        Self {
            key,
            doc,
            kind,
            rule: Rule::Any(""),
            at_least: &[],
            reload: AppliesTo::AtOnce,
            unit: None,
            is_secret: false,
            is_required: false,
            example: None,
            reverb: None,
            soketi: None,
        }
    }

    /// Whether only a restart applies another value.
    pub(super) fn needs_restart(&self) -> bool {
        self.reload == AppliesTo::Restart
    }

    /// The last part of the key.
    pub(super) fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The documentation in one line.
    pub(super) fn doc(&self) -> String {
        joined(self.doc)
    }

    /// What an integer counts.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let units = [("s", "seconds"), ("ms", "milliseconds"), ("bytes", "bytes")];
        let of_name = units.iter().find(|(end, _)| self.key.rsplit('_').next() == Some(end));
        self.unit.or(of_name.map(|(_, unit)| *unit))
    }
}

/// The lines of a documentation as one.
pub(super) fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Parses a value in a declaration, which is TOML.
pub(super) fn parse_toml(text: &str) -> Value {
    text.parse().expect("a declared value is TOML")
}

/// The type of a setting's field.
pub(super) trait SettingType {
    /// The kind of values that it is read from.
    const KIND: ValueKind;
}

/// Declares the kinds of the types of settings.
macro_rules! setting_types {
    ($($kind:ident: $($type:ty),+;)+) => {
        $($(
            impl $crate::config::declare::SettingType for $type {
                const KIND: $crate::config::kind::ValueKind =
                    $crate::config::kind::ValueKind::$kind;
            }
        )+)+
    };
}
pub(super) use setting_types;

setting_types! {
    String: String, super::Secret;
    Integer: u16, u32, u64, usize;
    Boolean: bool;
    List: Vec<String>, Vec<IpNet>;
    Map: BTreeMap<String, super::Secret>;
}

/// A section and its settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionInfo {
    /// The path, with `[]` after the name of a list; empty for the root.
    pub(super) path: &'static str,
    /// The lines of the documentation.
    pub(super) about: &'static [&'static str],
    /// The settings, without those of sections in it.
    pub(super) settings: &'static [Setting],
}

impl SectionInfo {
    /// Whether only a restart applies another value of the setting `name`.
    pub(super) fn needs_restart(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.name() == name && setting.needs_restart())
    }
}

/// A struct of settings.
pub(super) trait SettingsSection {
    /// Path, documentation and settings of the section.
    const INFO: SectionInfo;

    /// This section and those in it, in the order of the manual.
    fn sections() -> Vec<SectionInfo>;
    /// The settings whose values differ, except in lists of sections.
    fn changed(&self, other: &Self) -> Vec<&'static Setting>;
    /// Keeps the running values of settings that need a restart.
    fn keep_restart_only(&mut self, running: &Self);
}

/// The apps or their webhooks. Their changes are found by the ids of apps, and not by index.
impl<T: SettingsSection> SettingsSection for Vec<T> {
    const INFO: SectionInfo = T::INFO;

    fn sections() -> Vec<SectionInfo> {
        T::sections()
    }

    fn changed(&self, _other: &Self) -> Vec<&'static Setting> {
        Vec::new()
    }

    fn keep_restart_only(&mut self, _running: &Self) {}
}

/// Declares a section: a struct with a field for each setting, and one for each section in it.
///
/// ```text
/// section! {
///     /// Documentation.
///     #[derive(Debug)]
///     ServerConfig at "server" {
///         /// Documentation.
///         port: u16 = 8_080 => { rule: Range(0, 65_535), reload: Restart },
///     }
/// }
/// ```
///
/// A field under `derived` is not a setting: it follows from the sources in another way.
///
/// The attributes in braces are the fields of [`Setting`] that differ from
/// [`Setting::new`].
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $(#[derive($($derive:ident),+)])?
        $name:ident at $path:literal {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                $field:ident: $type:ty = $default:expr
                    => { $($attribute:ident: $value:expr),* $(,)? },
            )*
            $(sections {
                $(
                    $(#[doc = $inner_doc:literal])+
                    $inner:ident: $section:ty = $inner_default:expr,
                )+
            })?
            $(derived {
                $(#[doc = $derived_doc:literal])+
                $derived:ident: $derived_type:ty,
            })?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, serde::Deserialize, serde::Serialize $($(, $derive)+)?)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`. ")]
                #[doc = concat!("`", stringify!($($attribute: $value),*), "`")]
                $(#[serde($($serde)+)])?
                pub $field: $type,
            )*
            $($($(#[doc = $inner_doc])+ pub $inner: $section,)+)?
            $($(#[doc = $derived_doc])+ #[serde(skip)] pub $derived: $derived_type,)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($inner: $inner_default,)+)? $($derived: Default::default(),)? }
            }
        }

        impl SettingsSection for $name {
            const INFO: SectionInfo = SectionInfo {
                path: $path,
                about: &[$($about),+],
                settings: &[$(Setting {
                    $($attribute: $value,)*
                    ..Setting::new(
                        concat!($path, ".", stringify!($field)),
                        &[$($doc),+],
                        <$type as SettingType>::KIND,
                    )
                }),*],
            };

            fn sections() -> Vec<SectionInfo> {
                let inner: &[Vec<_>] = &[$($(<$section>::sections()),+)?];
                [vec![Self::INFO], inner.concat()].concat()
            }

            fn changed(&self, other: &Self) -> Vec<&'static Setting> {
                let differs: &[bool] = &[$(self.$field != other.$field),*];
                let own = Self::INFO.settings.iter().zip(differs).filter(|(_, differs)| **differs);
                let inner: &[Vec<_>] = &[$($(self.$inner.changed(&other.$inner)),+)?];
                own.map(|(declaration, _)| declaration).chain(inner.concat()).collect()
            }

            fn keep_restart_only(&mut self, running: &Self) {
                $(if Self::INFO.needs_restart(stringify!($field)) {
                    self.$field.clone_from(&running.$field);
                })*
                $($(self.$inner.keep_restart_only(&running.$inner);)+)?
            }
        }
    };
}
pub(super) use section;

/// Declares a setting's allowed strings, as an enum.
macro_rules! string_enum {
    ($(#[$about:meta])+ $name:ident { $($(#[$doc:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
        pub enum $name {
            $($(#[$doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All variants, in the order of the documentation.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];
            /// The name of each variant.
            pub(super) const NAMES: &'static [&'static str] = &[$($word),+];

            /// The name, in the configuration and elsewhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}
pub(super) use string_enum;
