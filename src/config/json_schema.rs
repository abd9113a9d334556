//! The settings as a JSON Schema, by which editors complete and check `config.toml`.

use super::{
    declare::{Rule, SectionInfo, Setting, joined, parse_toml},
    key::KeyPath,
    kind::ValueKind,
    schema,
};
use serde_json::{Map, Value, json};

/// The JSON Schema of `config.toml`.
#[must_use]
pub fn json_schema() -> String {
    let mut root = schema::sections().first().map(section).unwrap_or_default();
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "config.toml of Campanile".into();
    format!("{root:#}\n")
}

fn section(info: &SectionInfo) -> Value {
    let mut properties = Map::new();
    for (setting, default) in schema::defaults() {
        if info.settings.iter().any(|own| own.key == setting.key) {
            properties.insert(setting.name().to_owned(), property(setting, &default));
        }
    }
    for inner in schema::sections() {
        let key = KeyPath::new(inner.path);
        if key.section().schema_path() != info.path || inner.path == info.path {
            continue;
        }
        let inner_schema = section(inner);
        let (name, value) = match key.name().strip_suffix("[]") {
            // A list that is set has an entry.
            Some(name) if inner.path == "apps[]" => {
                (name, json!({ "type": "array", "minItems": 1, "items": inner_schema }))
            }
            Some(name) => (name, json!({ "type": "array", "items": inner_schema })),
            None => (key.name(), inner_schema),
        };
        properties.insert(name.to_owned(), value);
    }
    json!({
        "description": without_backticks(&joined(info.about)),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// No key is required, since the environment can set it.
fn property(setting: &Setting, default: &toml::Value) -> Value {
    let values = Some(setting.rule.description()).filter(|values| !values.is_empty());
    let sentences = [
        Some(setting.doc()),
        setting.unit().map(|unit| format!("Unit: {unit}.")),
        values.map(|values| format!("Value: {values}.")),
        setting.is_required.then(|| "Required.".to_owned()),
        Some(format!("Reload: {}.", setting.reload.as_str())),
    ];
    let text = sentences.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut one = json!({ "type": "string" });
    if let Rule::OneOf(names) = setting.rule {
        one["enum"] = names.into();
    }
    let mut property = match setting.kind {
        ValueKind::String => one,
        ValueKind::Integer => json!({ "type": "integer" }),
        ValueKind::Boolean => json!({ "type": "boolean" }),
        ValueKind::List => json!({ "type": "array", "items": one }),
        ValueKind::Map => json!({ "type": "object", "additionalProperties": one }),
    };
    if let Rule::Range(least, largest) = setting.rule {
        (property["minimum"], property["maximum"]) = (least.into(), largest.into());
    }
    property["description"] = without_backticks(&text).into();
    if setting.is_required {
        let least = if setting.kind == ValueKind::List { "minItems" } else { "minLength" };
        property[least] = 1.into();
    } else {
        property["default"] = json!(default);
    }
    if let Some(example) = setting.example {
        property["examples"] = json!([parse_toml(example)]);
    }
    if setting.is_secret {
        property["writeOnly"] = true.into();
    }
    property
}

/// `text` without the marks of code in Markdown.
fn without_backticks(text: &str) -> String {
    text.replace('`', "")
}
