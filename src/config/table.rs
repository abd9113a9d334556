//! The table of settings: how each is declared, and what follows from the declarations.
//!
//! The sections in `settings` and `app` declare each setting once, as a field of a struct: its
//! documentation, type, default, rule and time of effect. The struct, its defaults and a
//! [`Declaration`] are made from that, and from the declarations everything else: reading and
//! checking values, names of variables, suggestions, what a reload changes, `config.toml`,
//! `docs/configuration.md`, the JSON Schema.

use super::kind::ValueKind;
use ipnet::IpNet;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A setting, by which every value of it is read, checked, shown and documented.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declaration {
    /// The key, with `[]` for the index of an app or a webhook.
    pub(super) key: &'static str,
    /// The lines of the documentation, in Markdown. Documents are cited by their path from the root.
    pub(super) doc: &'static [&'static str],
    /// The kind of values.
    pub(super) kind: ValueKind,
    /// The rule for values.
    pub(super) rule: Rule,
    /// The integers that this one must not be less than.
    pub(super) at_least: &'static [&'static str],
    /// What a reloaded value applies to.
    pub(super) reload: Reload,
    /// What an integer counts, if the end of the name does not show it.
    pub(super) unit: Option<&'static str>,
    /// Whether the value is masked wherever it is shown.
    pub(super) is_secret: bool,
    /// Whether it has no default and must be set.
    pub(super) is_required: bool,
    /// Whether values other than the default are supported by this version.
    pub(super) is_supported: bool,
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
    /// None beyond the type. The text describes the values, if there is something to say.
    Any(&'static str),
    /// The minimum and the maximum of an integer.
    Range(i64, i64),
    /// The allowed words, in a list for each element.
    Words(&'static [&'static str]),
    /// A check that also normalizes the text, in a list each element, and its description.
    Form(TextForm, &'static str),
    /// A check of a table, and its description.
    Entries(fn(&Table) -> Result<(), String>, &'static str),
}

/// Normalizes a text, or returns the violated rule.
pub(super) type TextForm = fn(&str) -> Result<String, &'static str>;

/// What the next value applies to after a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reload {
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
            Self::Any(values) | Self::Form(_, values) | Self::Entries(_, values) => values,
            Self::Range(..) | Self::Words(_) => "",
        }
    }
}

impl Reload {
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

impl Declaration {
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
            reload: Reload::AtOnce,
            unit: None,
            is_secret: false,
            is_required: false,
            is_supported: true,
            example: None,
            reverb: None,
            soketi: None,
        }
    }

    /// Whether only a restart changes it.
    pub(super) fn is_fixed(&self) -> bool {
        self.reload == Reload::Restart
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

/// The value of a declared text in TOML.
pub(super) fn declared(text: &str) -> Value {
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
            impl $crate::config::table::SettingType for $type {
                const KIND: $crate::config::kind::ValueKind =
                    $crate::config::kind::ValueKind::$kind;
            }
        )+)+
    };
}
pub(super) use setting_types;

setting_types! {
    Text: String, super::Secret;
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
    pub(super) settings: &'static [Declaration],
}

impl SectionInfo {
    /// Whether only a restart changes the setting `name`.
    pub(super) fn fixes(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.name() == name && setting.is_fixed())
    }
}

/// A struct of settings.
pub(super) trait Section {
    /// The section itself.
    const INFO: SectionInfo;

    /// This section and those in it, in the order of the manual.
    fn sections() -> Vec<SectionInfo>;
    /// The settings whose values differ, except in lists of sections.
    fn changed(&self, other: &Self) -> Vec<&'static Declaration>;
    /// Takes over the values that only a restart changes.
    fn keep_fixed(&mut self, running: &Self);
}

/// The apps or their webhooks. Their changes are found by the ids of apps, and not by index.
impl<T: Section> Section for Vec<T> {
    const INFO: SectionInfo = T::INFO;

    fn sections() -> Vec<SectionInfo> {
        T::sections()
    }

    fn changed(&self, _other: &Self) -> Vec<&'static Declaration> {
        Vec::new()
    }

    fn keep_fixed(&mut self, _running: &Self) {}
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
/// The attributes in braces are the fields of [`Declaration`] that differ from
/// [`Declaration::new`].
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

        impl Section for $name {
            const INFO: SectionInfo = SectionInfo {
                path: $path,
                about: &[$($about),+],
                settings: &[$(Declaration {
                    $($attribute: $value,)*
                    ..Declaration::new(
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

            fn changed(&self, other: &Self) -> Vec<&'static Declaration> {
                let differs: &[bool] = &[$(self.$field != other.$field),*];
                let own = Self::INFO.settings.iter().zip(differs).filter(|(_, differs)| **differs);
                let inner: &[Vec<_>] = &[$($(self.$inner.changed(&other.$inner)),+)?];
                own.map(|(declaration, _)| declaration).chain(inner.concat()).collect()
            }

            fn keep_fixed(&mut self, running: &Self) {
                $(if Self::INFO.fixes(stringify!($field)) {
                    self.$field.clone_from(&running.$field);
                })*
                $($(self.$inner.keep_fixed(&running.$inner);)+)?
            }
        }
    };
}
pub(super) use section;

/// Declares the words that a setting may have, as an enum.
macro_rules! words {
    ($(#[$about:meta])+ $name:ident { $($(#[$doc:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
        pub enum $name {
            $($(#[$doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All variants, in the order of the documentation.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];
            /// The word of each variant.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word, in the configuration and elsewhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}
pub(super) use words;
