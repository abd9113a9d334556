//! The signatures of the protocol, implemented independently of the server on purpose. Both implementations are checked
//! against `vectors/signatures.json`.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// HMAC-SHA256 of `text`, in lower-case hexadecimal.
pub fn hmac_hex(secret: &str, text: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length will do");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// MD5 of `bytes`, in lower-case hexadecimal.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// `auth` of a subscription: signs three parts if there is `channel_data`, and two parts otherwise.
pub fn channel_auth(
    key: &str,
    secret: &str,
    socket_id: &str,
    channel: &str,
    channel_data: Option<&str>,
) -> String {
    let text = match channel_data {
        Some(data) => format!("{socket_id}:{channel}:{data}"),
        None => format!("{socket_id}:{channel}"),
    };
    format!("{key}:{}", hmac_hex(secret, &text))
}

/// `auth` of a sign-in.
pub fn user_auth(key: &str, secret: &str, socket_id: &str, user_data: &str) -> String {
    format!("{key}:{}", hmac_hex(secret, &format!("{socket_id}::user::{user_data}")))
}

/// The string that is signed for a request of the HTTP API.
pub fn request_text(method: &str, path: &str, parameters: &[(String, String)]) -> String {
    let mut sorted: Vec<(String, &str)> = parameters
        .iter()
        .filter(|(name, _)| name != "auth_signature")
        .map(|(name, value)| (name.to_lowercase(), value.as_str()))
        .collect();
    sorted.sort();
    let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{method}\n{path}\n{}", pairs.join("&"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
