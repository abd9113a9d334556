//! Reads from built JavaScript which server it connects to.
//!
//! Vite and Mix replace `import.meta.env.VITE_*` and `process.env.MIX_*` by literals, so that the
//! options of Echo and pusher-js are object literals with constant values in the built files.

/// The options of a client in built assets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct BuiltClient {
    pub(super) key: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) is_tls: Option<bool>,
    /// Whether the client connects to hosted Pusher.
    pub(super) is_hosted: bool,
    /// Whether the variable with the host was not set when the assets were built.
    pub(super) is_without_host: bool,
    /// Whether the client falls back to other transports, which are at pusher.com.
    pub(super) has_fallbacks: bool,
}

/// Maximum length of an object literal with options, in bytes.
const OBJECT_MAX: usize = 8_192;

/// The clients in a file.
pub(super) fn clients(script: &str) -> Vec<BuiltClient> {
    let mut found: Vec<BuiltClient> = Vec::new();
    let of_echo = script.match_indices("broadcaster:").map(|(at, _)| at);
    let of_pusher = script.match_indices("wsHost:").map(|(at, _)| at);
    let of_cluster = script.match_indices("cluster:").map(|(at, _)| at);
    for at in of_echo.chain(of_pusher).chain(of_cluster) {
        let Some((start, object)) = enclosing_object(script, at) else { continue };
        let argument = string_before(&script[..start]);
        if let Some(client) = client(&members(object), argument)
            && !found.contains(&client)
        {
            found.push(client);
        }
    }
    found
}

/// The client with these options, if they are an application's: the libraries have objects with
/// defaults, whose key is null.
fn client(members: &[(&str, &str)], argument: Option<&str>) -> Option<BuiltClient> {
    let member = |name: &str| members.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    let text = |name: &str| member(name).and_then(literal).filter(|text| !text.is_empty());
    let broadcaster = text("broadcaster");
    let is_pusher = match broadcaster.as_deref() {
        Some("reverb") => false,
        Some("pusher") => true,
        Some(_) => return None,
        None => argument.is_some(),
    };
    let key = text("key").or_else(|| argument.filter(|_| broadcaster.is_none()).map(str::to_owned));
    let is_built_without_key = member("key").is_some_and(is_undefined);
    if (!is_pusher && broadcaster.is_none()) || (key.is_none() && !is_built_without_key) {
        return None;
    }
    let host = text("wsHost");
    let is_tls = member("forceTLS").and_then(boolean);
    let port = text(if is_tls == Some(false) { "wsPort" } else { "wssPort" });
    let is_hosted = is_pusher && host.as_deref().is_none_or(|host| host.ends_with("pusher.com"));
    Some(BuiltClient {
        key,
        port: port.and_then(|port| port.parse().ok()),
        is_tls,
        is_hosted,
        is_without_host: member("wsHost").is_some_and(is_undefined),
        has_fallbacks: member("enabledTransports").is_none(),
        host,
    })
}

/// The object literal around a place: where it starts, and its text between the braces.
fn enclosing_object(script: &str, at: usize) -> Option<(usize, &str)> {
    let mut depth = 0;
    let start = script.as_bytes()[at.saturating_sub(OBJECT_MAX)..at].iter().rposition(|byte| {
        match byte {
            b'}' => depth += 1,
            b'{' if depth == 0 => return true,
            b'{' => depth -= 1,
            _ => {}
        }
        false
    })?;
    let start = at.saturating_sub(OBJECT_MAX) + start;
    let inner = script.get(start + 1..)?;
    let end = end_of(inner, |byte| byte == b'}')?;
    (start + 1 + end > at).then(|| (start, &inner[..end]))
}

/// The place of the first byte outside of texts and brackets that is `wanted`.
fn end_of(text: &str, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (mut quote, mut depth, mut is_escaped) = (None, 0_u32, false);
    for (at, byte) in text.bytes().enumerate().take(OBJECT_MAX) {
        match (quote, byte) {
            _ if is_escaped => is_escaped = false,
            (Some(_), b'\\') => is_escaped = true,
            (Some(open), byte) if open == byte => quote = None,
            (None, b'"' | b'\'' | b'`') => quote = Some(byte),
            (None, byte) if depth == 0 && wanted(byte) => return Some(at),
            (None, b'{' | b'[' | b'(') => depth += 1,
            (None, b'}' | b']' | b')') => depth = depth.checked_sub(1)?,
            (Some(_) | None, _) => {}
        }
    }
    None
}

/// The members of an object literal: names and values as written.
fn members(object: &str) -> Vec<(&str, &str)> {
    let (mut found, mut rest) = (Vec::new(), object);
    while !rest.is_empty() {
        let end = end_of(rest, |byte| byte == b',').unwrap_or(rest.len());
        if let Some((name, value)) = rest[..end].split_once(':') {
            found.push((name.trim().trim_matches(['"', '\'']), value.trim()));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    found
}

/// The text of a constant: a text or a number, or the first of `a ?? b` and `a || b` that is one.
fn literal(value: &str) -> Option<String> {
    let value = without_parentheses(value);
    for operator in ["??", "||"] {
        if let Some((left, right)) = value.split_once(operator) {
            return literal(left).filter(|text| !text.is_empty()).or_else(|| literal(right));
        }
    }
    let quote = value.chars().next()?;
    if matches!(quote, '"' | '\'' | '`') {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        return (!inner.contains(quote)).then(|| inner.to_owned());
    }
    // Minifiers write 8000 as 8e3.
    let number: f64 = value.parse().ok()?;
    (number.fract() == 0.0 && (0.0..=65_535.0).contains(&number)).then(|| format!("{number:.0}"))
}

fn boolean(value: &str) -> Option<bool> {
    let value = without_parentheses(value);
    match value {
        "!0" | "true" => return Some(true),
        "!1" | "false" => return Some(false),
        _ => {}
    }
    let (left, right) = value.split_once("===").or_else(|| value.split_once("=="))?;
    Some(literal(left)? == literal(right.trim_start_matches('='))?)
}

fn is_undefined(value: &str) -> bool {
    matches!(without_parentheses(value), "void 0" | "undefined")
}

fn without_parentheses(value: &str) -> &str {
    let value = value.trim();
    match value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) if end_of(inner, |_| false).is_none() && is_balanced(inner) => inner.trim(),
        Some(_) | None => value,
    }
}

/// Whether no parenthesis is closed that was not opened within.
fn is_balanced(text: &str) -> bool {
    let mut depth = 0_i32;
    text.bytes().all(|byte| {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        0 <= depth
    })
}

/// The text literal that ends with `,` at the end of `script`, as the first argument of a call has
/// it.
fn string_before(script: &str) -> Option<&str> {
    let script = script.trim_end().strip_suffix(',')?.trim_end();
    let quote = script.chars().next_back().filter(|quote| matches!(quote, '"' | '\'' | '`'))?;
    let script = script.strip_suffix(quote)?;
    let start = script.rfind(quote)?;
    script[..start].trim_end().ends_with('(').then(|| &script[start + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(key: &str, host: &str, port: u16, is_tls: bool) -> BuiltClient {
        BuiltClient {
            key: Some(key.into()),
            host: Some(host.into()),
            port: Some(port),
            is_tls: Some(is_tls),
            is_hosted: false,
            is_without_host: false,
            has_fallbacks: false,
        }
    }

    #[test]
    fn options_are_read_as_minifiers_write_them() {
        for (script, expected) in [
            (
                r#"window.Echo=new e({broadcaster:"reverb",key:"k1",wsHost:"localhost",wsPort:"8080",wssPort:"8080",forceTLS:!1,enabledTransports:["ws","wss"]});"#,
                built("k1", "localhost", 8080, false),
            ),
            (
                r#"new Echo({broadcaster: "reverb", key: "k1", wsHost: "a.test", wsPort: "443" ?? 80, wssPort: "443" ?? 443, forceTLS: ("https" ?? "https") === "https", enabledTransports: ["ws", "wss"]})"#,
                built("k1", "a.test", 443, true),
            ),
            (
                "x={broadcaster:`reverb`,key:`k1`,wsHost:`a.test`,wsPort:8e3,wssPort:443,forceTLS:`http`==`https`,enabledTransports:e,auth:{headers:{a:'}'}}}",
                built("k1", "a.test", 8000, false),
            ),
            (
                r#"n=new Pusher("k2",{cluster:"",wsHost:"b.test",wssPort:443,forceTLS:!0,enabledTransports:["ws"]})"#,
                built("k2", "b.test", 443, true),
            ),
        ] {
            assert_eq!(clients(script), [expected], "{script}");
        }
    }

    #[test]
    fn clients_of_hosted_pusher_are_recognised() {
        for script in [
            r#"new E({broadcaster:"pusher",key:"k",cluster:"mt1",forceTLS:!0})"#,
            r#"new E({broadcaster:"pusher",key:"k",cluster:"mt1",wsHost:"ws-mt1.pusher.com",wsPort:80,wssPort:443,forceTLS:!0})"#,
            r#"new P("k",{cluster:"mt1"})"#,
        ] {
            let found = clients(script);
            assert!(matches!(found.as_slice(), [only] if only.is_hosted), "{script} {found:?}");
        }
    }

    #[test]
    fn defaults_of_the_libraries_are_no_clients() {
        for script in [
            r#"_defaultOptions={auth:{headers:{}},broadcaster:"pusher",csrfToken:null,key:null,namespace:"App.Events"}"#,
            r#"if(e.broadcaster==="reverb")new R({...e,cluster:e.cluster??""})"#,
            r"class A{get(){return{wsHost:this.a,cluster:t.cluster}}}",
            r#"{cluster:"mt1",wsPort:80}"#,
            "broadcaster:",
            "{{{{broadcaster:\"reverb\",key:",
        ] {
            assert_eq!(clients(script), [], "{script}");
        }
    }

    #[test]
    fn a_build_without_a_key_is_a_client_without_a_key() {
        let found =
            clients(r#"new E({broadcaster:"reverb",key:void 0,wsHost:void 0,forceTLS:!0})"#);
        assert!(matches!(found.as_slice(), [only] if only.key.is_none()), "{found:?}");
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let script = r#"é{broadcaster:"reverb",key:"é\"",wsHost:('a'),é:"}"#;
        for end in (0..script.len()).filter(|end| script.is_char_boundary(*end)) {
            for start in (0..end).filter(|start| script.is_char_boundary(*start)) {
                let _ = clients(&script[start..end]);
            }
        }
    }
}
