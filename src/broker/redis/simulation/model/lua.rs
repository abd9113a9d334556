//! Scripts, run by a real Lua 5.1 with the globals and conversions of Redis.

#![expect(clippy::wildcard_enum_match_arm, reason = "Lua has more types than scripts use")]

use super::{
    cjson,
    replies::{Bytes, ModelError, Reply, general},
};
use mlua::{Function, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Value as LuaValue};
use redis::Value;
use std::{
    any::Any,
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// Integers below this are written as integers, in any format.
const EXACT_MAX: u64 = 1_000_000_000_000_000;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// Executes the commands of a script.
pub(crate) trait LuaHost: Send + 'static {
    fn call(&mut self, command: &mut [Bytes]) -> Reply;
}

/// A Lua state with its compiled scripts. The servers of one simulation share it, since a script leaves no state
/// behind.
pub(crate) struct LuaEngine<H> {
    lua: Lua,
    calls: Arc<Mutex<Calls<H>>>,
    compiled: Mutex<HashMap<String, Function>>,
    run: Function,
    err: LuaString,
    ok: LuaString,
}

/// The context of a running script.
struct Calls<H> {
    host: Option<Box<H>>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<H> fmt::Debug for LuaEngine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl<H: LuaHost> LuaEngine<H> {
    pub(crate) fn new() -> Self {
        Self::build().expect("a Lua state")
    }

    fn build() -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let calls = Arc::new(Mutex::new(Calls { host: None, panic: None }));
        cjson::install(&lua)?;
        let shared = Arc::clone(&calls);
        let raw = lua.create_function(move |lua, words: MultiValue| call(lua, &shared, &words))?;
        let shared = Arc::clone(&calls);
        let missing = lua.create_function(move |_, name: String| {
            if ["math.random", "cmsgpack", "bit", "struct", "os"].contains(&name.as_str()) {
                let mut calls = shared.lock().unwrap_or_else(PoisonError::into_inner);
                calls.panic = Some(Box::new(format!("the model's Lua does not support {name}")));
            }
            Ok(())
        })?;
        let locate = lua.create_function(|lua, ()| {
            for level in 0.. {
                let line = lua.inspect_stack(level, |debug| {
                    let is_script = debug.source().source.as_deref() == Some("@user_script");
                    is_script.then(|| debug.current_line()).flatten()
                });
                match line {
                    Some(Some(line)) => return Ok(Some(line)),
                    Some(None) => {}
                    None => break,
                }
            }
            Ok(None)
        })?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=redis");
        let run = prelude.call((raw, locate, missing))?;
        let (err, ok) = (lua.create_string("err")?, lua.create_string("ok")?);
        Ok(Self { lua, calls, compiled: Mutex::default(), run, err, ok })
    }

    /// Compiles a script and stores it under its name.
    pub(super) fn compile(&self, name: &str, text: &[u8]) -> Result<(), ModelError> {
        let mut compiled = self.compiled.lock().expect("one thread");
        if compiled.contains_key(name) {
            return Ok(());
        }
        let function = self.lua.load(text).set_name("@user_script").into_function();
        let function = function.map_err(|error| {
            let message = match error {
                mlua::Error::SyntaxError { message, .. } => message,
                other => other.to_string(),
            };
            ModelError::new(format!("ERR Error compiling script (new function): {message}"))
        })?;
        compiled.insert(name.to_owned(), function);
        Ok(())
    }

    /// Runs a compiled script. Its commands are executed by `host`, which is returned.
    pub(super) fn run(
        &self,
        name: &str,
        host: Box<H>,
        keys: &[Bytes],
        args: &[Bytes],
    ) -> (Box<H>, Reply) {
        let function = self.compiled.lock().expect("one thread").get(name).cloned();
        let function = function.expect("the script was compiled");
        self.calls.lock().expect("one thread").host = Some(host);
        let result = self.call(name, &function, keys, args);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = calls.panic.take() {
            resume_unwind(panic);
        }
        let host = calls.host.take().expect("the host was stored before the call");
        (host, result.unwrap_or_else(|error| panic!("Lua itself failed: {error}")))
    }

    fn call(
        &self,
        name: &str,
        function: &Function,
        keys: &[Bytes],
        args: &[Bytes],
    ) -> mlua::Result<Reply> {
        let globals = self.lua.globals();
        globals.raw_set("KEYS", self.list(keys)?)?;
        globals.raw_set("ARGV", self.list(args)?)?;
        let (is_done, result): (bool, LuaValue) = self.run.call(function)?;
        if is_done {
            return self.to_reply(&result);
        }
        let LuaValue::Table(error) = result else { panic!("the error handler returns tables") };
        let text: LuaString = error.raw_get("err")?;
        let text = text.to_string_lossy();
        // The line of `return redis.call(…)` is unknown here. In Redis it is known, since `redis.call` is a C function.
        let line = error.raw_get::<Option<u32>>("line")?.unwrap_or(1);
        Ok(Err(ModelError::new(format!("{text} script: {name}, on @user_script:{line}."))))
    }

    fn list(&self, words: &[Bytes]) -> mlua::Result<Table> {
        self.lua.create_sequence_from(words.iter().map(LuaString::wrap))
    }

    fn to_reply(&self, value: &LuaValue) -> mlua::Result<Reply> {
        Ok(Ok(match value {
            LuaValue::String(text) => Value::BulkString(text.as_bytes().to_vec()),
            LuaValue::Integer(number) => Value::Int(*number),
            LuaValue::Number(number) => Value::Int(truncate(*number)),
            LuaValue::Boolean(true) => Value::Int(1),
            LuaValue::Table(table) => {
                if let LuaValue::String(text) = table.raw_get(&self.err)? {
                    return Ok(Err(ModelError::new(text.to_string_lossy())));
                }
                if let LuaValue::String(text) = table.raw_get(&self.ok)? {
                    return Ok(Ok(status(&text.to_string_lossy())));
                }
                let mut items = Vec::with_capacity(table.raw_len());
                for item in table.sequence_values::<LuaValue>() {
                    // An error within an array is an element.
                    items.push(match self.to_reply(&item?)? {
                        Ok(value) => value,
                        Err(failure) => failure.to_value(),
                    });
                }
                Value::Array(items)
            }
            _ => Value::Nil,
        }))
    }
}

/// Converts like C on common platforms: out-of-range numbers become the minimum.
#[expect(clippy::cast_possible_truncation, reason = "Redis truncates as well")]
fn truncate(number: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&number) { number as i64 } else { i64::MIN }
}

fn status(text: &str) -> Value {
    if text == "OK" { Value::Okay } else { Value::SimpleString(text.replace(['\r', '\n'], " ")) }
}

/// Executes one command of a script. Returns `true` if an argument is a zero, since its sign is lost here.
fn call<H: LuaHost>(
    lua: &Lua,
    calls: &Mutex<Calls<H>>,
    words: &MultiValue,
) -> mlua::Result<LuaValue> {
    let mut command = Vec::with_capacity(words.len());
    for word in words {
        match word {
            LuaValue::String(text) => command.push(text.as_bytes().to_vec()),
            LuaValue::Integer(0) => return Ok(LuaValue::Boolean(true)),
            LuaValue::Integer(number) if number.unsigned_abs() < EXACT_MAX => {
                command.push(number.to_string().into_bytes());
            }
            #[expect(clippy::cast_precision_loss, reason = "it was converted from such a number")]
            LuaValue::Integer(number) => command.push(general(*number as f64, 17).into_bytes()),
            LuaValue::Number(number) => command.push(general(*number, 17).into_bytes()),
            _ => {
                let text = "ERR Lua redis lib command arguments must be strings or integers";
                return to_lua(lua, Err(ModelError::new(text)));
            }
        }
    }
    if command.is_empty() {
        let text = "ERR Please specify at least one argument for this redis lib call";
        return to_lua(lua, Err(ModelError::new(text)));
    }
    let mut calls = calls.lock().expect("one thread");
    let host = calls.host.as_mut().expect("a script is running");
    match catch_unwind(AssertUnwindSafe(|| host.call(&mut command))) {
        Ok(reply) => to_lua(lua, reply),
        Err(panic) => {
            // A script can't catch the panic: it is resumed when the script has ended.
            calls.panic.get_or_insert(panic);
            to_lua(lua, Err(ModelError::new("ERR the model has panicked")))
        }
    }
}

fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<LuaValue> {
    let single = |name: &str, text: &str| -> mlua::Result<LuaValue> {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, text)?;
        Ok(LuaValue::Table(table))
    };
    match reply {
        Ok(Value::BulkString(bytes)) => lua.create_string(bytes).map(LuaValue::String),
        Ok(Value::Int(number)) => Ok(LuaValue::Integer(number)),
        Ok(Value::Nil) => Ok(LuaValue::Boolean(false)),
        Ok(Value::Okay) => single("ok", "OK"),
        Ok(Value::SimpleString(text)) => single("ok", &text),
        Ok(Value::Array(items) | Value::Set(items)) => table(lua, items.len(), items.into_iter()),
        Ok(Value::Map(pairs)) => {
            table(lua, 2 * pairs.len(), pairs.into_iter().flat_map(|(field, value)| [field, value]))
        }
        Ok(other) => panic!("the model passes no {other:?} to a script"),
        Err(failure) => single("err", &failure.0),
    }
}

fn table(lua: &Lua, len: usize, items: impl Iterator<Item = Value>) -> mlua::Result<LuaValue> {
    let table = lua.create_table_with_capacity(len, 0)?;
    for (at, item) in items.enumerate() {
        table.raw_set(at + 1, to_lua(lua, Ok(item))?)?;
    }
    Ok(LuaValue::Table(table))
}
