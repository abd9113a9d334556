//! The part of `cjson` that the scripts use, with the output format of the library in Redis.

#![expect(clippy::wildcard_enum_match_arm, reason = "Lua has more types than scripts use")]

use super::replies::general;
use mlua::{Error, Lua, Result, Table, Value};

const DIGITS: usize = 14;

/// Adds the global `cjson`.
pub(super) fn install(lua: &Lua) -> Result<()> {
    let cjson = lua.create_table()?;
    cjson.set(
        "encode",
        lua.create_function(|lua, value: Value| {
            let mut text = Vec::new();
            encode(&value, &mut text)?;
            lua.create_string(text)
        })?,
    )?;
    cjson.set(
        "decode",
        lua.create_function(|lua, text: mlua::LuaString| {
            let read = serde_json::from_slice(&text.as_bytes());
            decode(lua, read.map_err(|error| Error::runtime(error.to_string()))?)
        })?,
    )?;
    cjson.set("null", Value::NULL)?;
    lua.globals().raw_set("cjson", cjson)
}

fn encode(value: &Value, text: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Nil => text.extend_from_slice(b"null"),
        Value::LightUserData(pointer) if pointer.0.is_null() => text.extend_from_slice(b"null"),
        Value::Boolean(value) => text.extend_from_slice(value.to_string().as_bytes()),
        #[expect(clippy::cast_precision_loss, reason = "Lua has only floating-point numbers")]
        Value::Integer(number) => text.extend(general(*number as f64, DIGITS).into_bytes()),
        Value::Number(number) => text.extend(general(*number, DIGITS).into_bytes()),
        Value::String(string) => encode_string(&string.as_bytes(), text),
        Value::Table(table) => encode_table(table, text)?,
        other => {
            let kind = other.type_name();
            return Err(Error::runtime(format!("Cannot serialise {kind}: type not supported")));
        }
    }
    Ok(())
}

fn encode_string(string: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    for byte in string {
        match byte {
            b'"' | b'\\' | b'/' => text.extend([b'\\', *byte]),
            8 => text.extend(b"\\b"),
            9 => text.extend(b"\\t"),
            10 => text.extend(b"\\n"),
            12 => text.extend(b"\\f"),
            13 => text.extend(b"\\r"),
            0..32 | 127 => text.extend(format!("\\u{byte:04x}").into_bytes()),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
}

fn encode_table(table: &Table, text: &mut Vec<u8>) -> Result<()> {
    let mut pairs = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        pairs.push(pair?);
    }
    let len = table.raw_len();
    let is_index = |key: &Value| matches!(key, Value::Integer(at) if usize::try_from(*at).is_ok_and(|at| 0 < at && at <= len));
    if 0 < len && pairs.iter().all(|(key, _)| is_index(key)) {
        text.push(b'[');
        for at in 1..=len {
            if 1 < at {
                text.push(b',');
            }
            encode(&table.raw_get(at)?, text)?;
        }
        text.push(b']');
        return Ok(());
    }
    text.push(b'{');
    for (at, (key, value)) in pairs.iter().enumerate() {
        if 0 < at {
            text.push(b',');
        }
        match key {
            Value::String(key) => encode_string(&key.as_bytes(), text),
            Value::Integer(key) => encode_string(key.to_string().as_bytes(), text),
            Value::Number(key) => encode_string(general(*key, DIGITS).as_bytes(), text),
            other => {
                panic!("the model's cjson does not support keys of type {}", other.type_name())
            }
        }
        text.push(b':');
        encode(value, text)?;
    }
    text.push(b'}');
    Ok(())
}

fn decode(lua: &Lua, value: serde_json::Value) -> Result<Value> {
    Ok(match value {
        serde_json::Value::Null => Value::NULL,
        serde_json::Value::Bool(value) => Value::Boolean(value),
        serde_json::Value::Number(number) => {
            Value::Number(number.as_f64().ok_or(Error::runtime("not a number"))?)
        }
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.raw_push(decode(lua, item)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(fields) => {
            let table = lua.create_table()?;
            for (name, value) in fields {
                table.raw_set(name, decode(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}
