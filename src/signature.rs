//! HMAC signatures: the strings to sign, and constant-time comparison.
//!
//! Every comparison with a secret takes the same time for any input.

use crate::protocol::SocketId;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::fmt;

/// Signs and verifies with one app's secret.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// A signer for `secret`; the keyed state is computed once.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes a key of any length.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// The signature of `text` in lower-case hex.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        hex(&self.0.clone().chain_update(text.as_bytes()).finalize().into_bytes())
    }

    /// Whether `signature`, in hex of either case, is that of `text`. Takes constant time for
    /// signatures of the right length.
    #[must_use]
    pub fn verify(&self, text: &str, signature: &str) -> bool {
        self.verify_parts([text.as_bytes()], signature)
    }

    /// Like [`Signer::verify`], for a text in several parts, which are not joined.
    #[must_use]
    pub fn verify_parts<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a [u8]>,
        signature: &str,
    ) -> bool {
        let Some(bytes) = unhex::<32>(signature) else { return false };
        let mut hmac = self.0.clone();
        for part in parts {
            hmac.update(part);
        }
        hmac.verify_slice(&bytes).is_ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

/// Whether two secrets are the same, in a time that depends on neither.
#[must_use]
pub fn secrets_equal(one: &str, other: &str) -> bool {
    // Comparing digests under a key leaks nothing of the texts, not even their lengths.
    let signer = Signer::new("compare");
    signer.verify(one, &signer.sign(other))
}

/// The string to sign for a subscription of `socket_id` to `channel`, with `channel_data` byte for
/// byte if there is any.
#[must_use]
pub fn channel_string_to_sign(
    socket_id: SocketId,
    channel: &str,
    channel_data: Option<&str>,
) -> String {
    match channel_data {
        Some(data) => format!("{socket_id}:{channel}:{data}"),
        None => format!("{socket_id}:{channel}"),
    }
}

/// The string to sign for a sign-in of `socket_id` with `user_data`.
#[must_use]
pub fn user_string_to_sign(socket_id: SocketId, user_data: &str) -> String {
    format!("{socket_id}::user::{user_data}")
}

/// The MD5 of a request's body in lower-case hex; it binds the body to the signed query.
#[must_use]
pub fn body_md5(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

/// Whether `md5` is the [`body_md5`] of a body. It allocates nothing.
#[must_use]
pub fn is_body_md5(body: &[u8], md5: &str) -> bool {
    let mut digits = [[0; 2]; 16];
    for (digits, byte) in digits.iter_mut().zip(Md5::digest(body)) {
        *digits = hex_of(byte);
    }
    digits.as_flattened() == md5.as_bytes()
}

/// The string to sign for a request: `METHOD\nPATH\nQUERY`, where the query has all parameters
/// except the signature, sorted, with keys in lower case and decoded values.
#[must_use]
pub fn request_string_to_sign<T: AsRef<str>>(
    method: &str,
    path: &str,
    parameters: &[(T, T)],
) -> String {
    let mut text = [method, "\n", path, "\n"].concat();
    for (at, (key, value)) in parameters.iter().enumerate() {
        let and = if at == 0 { "" } else { "&" };
        text.extend([and, key.as_ref(), "=", value.as_ref()]);
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| hex_of(*byte)).map(char::from));
    text
}

fn hex_of(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Decodes exactly `LEN` bytes from hex of either case.
fn unhex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != LEN || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; LEN];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "7ad3773142a6692b25b8";

    /// The strings and webhook bodies of `docs/protocol.md#signature-vectors`.
    const VECTORS: &[(&str, &str, &str)] = &[
        (
            SECRET,
            "1234.1234:private-foobar",
            "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
        ),
        (
            SECRET,
            r#"1234.1234:presence-foobar:{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#,
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
        ),
        (
            SECRET,
            r#"1234.1234:presence-foobar:{"user_id":10,"user_info":{"name":"Mr. Pusher"}}"#,
            "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
        ),
        (
            SECRET,
            r#"1234.1234::user::{"id":"12345"}"#,
            "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
        ),
        (
            SECRET,
            r#"1234.1234:private-x:{"a":1}"#,
            "23df1784c960face30b41f9d02e740ea4864aa9ae31fee9258410081c7585b2c",
        ),
        (
            SECRET,
            r#"1234.1234:presence-foobar:{"user_id":"10","user_info":{"name":"Ren\u00e9e","url":"http:\/\/x.test\/a"}}"#,
            "f782c1cdf52f66c06bde6f81e57e4d11fc6fcd93e1226177c617bae1c105045c",
        ),
        (
            SECRET,
            "1234.1234:presence-r",
            "964123e035a01051d924f5fa653b88fd936a4289042a15e22dc018a2a476d2a9",
        ),
        (
            SECRET,
            "1234.1234:private-foobar:",
            "fb799eb5e55306a4911a0b1f25f875bb765b797ea357a8d311a40259e66eadcf",
        ),
        (
            "thisisasecret",
            "45055.28877557:-azAZ9_=@,.;",
            "d1c20ad7684c172271f92c108e11b45aef07499b005796ae1ec5beb924f361c4",
        ),
        (
            "thisisasecret",
            r#"45055.28877557:-azAZ9_=@,.;:{"user_id": "123"}"#,
            "3b3f1dcc4d7d2f95dd10ed05562397b3287b102d4cccfacbf30eed2f1ffa3d69",
        ),
        (
            "thisisasecret",
            r#"12345.6789::user::{"id":"123"}"#,
            "fc713f433deb729d0d96f9e26ef054285cbc3e833ebe840b93722a2fa16a6a18",
        ),
        (
            "tofu",
            r#"1.1::user::{"id":"ą§¶™€łü€ß£"}"#,
            "620494cee53d6c568b49598313194088afda37218f0d059af03c0c898ed61ff4",
        ),
        (
            SECRET,
            r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"test_channel"}]}"#,
            "709fdb84c03664445f7698120b0edf0acc1ab1c8c6e93a0368c61841d6b998aa",
        ),
        (
            "thisisasecret",
            r#"{"hello":"world"}"#,
            "40e0ad3b9aa49529322879e84de1aaaf18bde1efe839ca263d540cc865510d25",
        ),
    ];

    #[test]
    fn published_signature_vectors_verify() {
        for (secret, text, signature) in VECTORS {
            let signer = Signer::new(secret);
            assert_eq!(signer.sign(text), *signature, "{text}");
            assert!(signer.verify(text, signature), "{text}");
            assert!(signer.verify(text, &signature.to_uppercase()), "{text}");
        }
    }

    #[test]
    fn changed_signatures_do_not_verify() {
        let signer = Signer::new(SECRET);
        let signature = signer.sign("text");
        assert!(!signer.verify("texT", &signature));
        assert!(!signer.verify("text", &signature[..62]));
        assert!(!signer.verify("text", &signature[..63]));
        assert!(!signer.verify("text", &format!("{signature}0")));
        assert!(!signer.verify("text", &format!("{signature}00")));
        assert!(!signer.verify("text", ""));
        assert!(!signer.verify("text", &"zz".repeat(32)));
        assert!(!Signer::new("other").verify("text", &signature));
    }

    /// With a digit beyond `f`, `0g` would be read as `10`.
    #[test]
    fn a_signature_has_hexadecimal_digits_only() {
        let signer = Signer::new(SECRET);
        for number in 0..1_000 {
            let text = number.to_string();
            let signature = signer.sign(&text);
            assert!(signer.verify(&text, &signature));
            let Some(at) = (0..64).step_by(2).find(|at| signature[*at..].starts_with("10")) else {
                continue;
            };
            let other = format!("{}0g{}", &signature[..at], &signature[at + 2..]);
            assert!(!signer.verify(&text, &other), "{other}");
            return;
        }
        panic!("no signature with such a byte");
    }

    #[test]
    fn strings_to_sign_are_exact() {
        let id = SocketId::parse("1234.1234").unwrap().unwrap();
        assert_eq!(channel_string_to_sign(id, "private-foobar", None), VECTORS[0].1);
        assert_eq!(channel_string_to_sign(id, "private-x", Some(r#"{"a":1}"#)), VECTORS[4].1);
        assert_eq!(channel_string_to_sign(id, "private-foobar", Some("")), VECTORS[7].1);
        assert_eq!(user_string_to_sign(id, r#"{"id":"12345"}"#), VECTORS[3].1);
    }

    #[test]
    fn the_signature_of_a_request_covers_method_path_and_query() {
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let parameters = [
            ("auth_key", "278d425bdf160c739803"),
            ("auth_timestamp", "1353088179"),
            ("auth_version", "1.0"),
            ("body_md5", &body_md5(body)),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let text = request_string_to_sign("POST", "/apps/3/events", &parameters);
        let expected = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
        assert_eq!(Signer::new(SECRET).sign(&text), expected);
    }

    #[test]
    fn parts_are_verified_as_one_text() {
        let signer = Signer::new(SECRET);
        let signature = signer.sign("one text");
        assert!(signer.verify_parts([&b"one"[..], b"", b" text"], &signature));
        assert!(!signer.verify_parts([&b"one"[..], b"text"], &signature));
        assert!(!signer.verify_parts([], &signature));
    }

    #[test]
    fn the_md5_of_a_body_is_in_lower_case_hex() {
        let md5 = body_md5(b"{}");
        assert_eq!(md5, "99914b932bd37a50b983c5e7c90ae93b");
        assert!(is_body_md5(b"{}", &md5));
        assert!(!is_body_md5(b"{ }", &md5));
        for other in [&md5.to_uppercase(), &md5[..30], &format!("{md5}00"), ""] {
            assert!(!is_body_md5(b"{}", other), "{other}");
        }
    }

    #[test]
    fn a_signer_does_not_show_its_secret() {
        assert_eq!(format!("{:?}", Signer::new(SECRET)), "Signer(***)");
    }

    #[test]
    fn secrets_are_compared_completely() {
        assert!(secrets_equal("a", "a"));
        assert!(!secrets_equal("a", "b"));
        assert!(!secrets_equal("a", ""));
    }
}
