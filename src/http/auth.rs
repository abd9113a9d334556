//! Whether a request comes from the app's own servers.

use super::reply::ApiError;
use crate::{app::App, signature};
use humantime::format_rfc3339_seconds;
use hyper::Method;
use percent_encoding::percent_decode_str;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// What a request says in its query. Its head has been found right; its body may still turn out
/// not to be the one that was signed.
#[derive(Debug)]
pub(super) struct Authenticated<'a> {
    parameters: Vec<Parameter<'a>>,
}

/// A key and its value, decoded; borrowed where nothing had to be.
type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The line and query of a request, as they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// What precedes every path of this server; SDKs sign with or without it.
    pub(super) prefix: &'a str,
}

/// How far a request's timestamp may be off: at this many seconds it is. Source: Pusher's own
/// signature library.
const WINDOW_S: u64 = 600;
/// The MD5 of nothing, which the Python SDK sends along with every GET.
const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

impl Authenticated<'_> {
    /// The value of a parameter.
    pub(super) fn parameter(&self, key: &str) -> Option<&str> {
        parameter(&self.parameters, key)
    }

    /// Checks that `body` is what was signed.
    pub(super) fn check_body(&self, body: &[u8]) -> Result<(), ApiError> {
        let sent = self.parameter("body_md5");
        match (body.is_empty(), sent) {
            (true, None | Some(EMPTY_MD5)) => Ok(()),
            (false, Some(sent)) if sent == signature::body_md5(body) => Ok(()),
            (false, None) => Err(ApiError::unauthorized("Missing parameter: body_md5")),
            (_, Some(_)) => Err(ApiError::unauthorized(
                "Invalid body_md5: it must be the MD5 of the request's body in lower-case hex",
            )),
        }
    }
}

fn parameter<'a>(parameters: &'a [Parameter<'_>], key: &str) -> Option<&'a str> {
    parameters.iter().find(|(found, _)| found == key).map(|(_, value)| &**value)
}

/// Checks the head of a request, in the order of Pusher's own library, so that the same mistake
/// is met by the same words. `is_other_key` tells whether a key belongs to another app.
pub(super) fn authenticate<'a>(
    app: &App,
    line: RequestLine<'a>,
    now: SystemTime,
    is_other_key: impl Fn(&str) -> bool,
) -> Result<Authenticated<'a>, ApiError> {
    let parameters: Vec<Parameter<'_>> = form_urlencoded::parse(line.query.as_bytes()).collect();
    match parameter(&parameters, "auth_key") {
        None => return Err(ApiError::unauthorized("Missing parameter: auth_key")),
        Some(key) if key == app.config.key => {}
        Some(key) if is_other_key(key) => {
            return Err(ApiError::unauthorized("Invalid auth_key: it belongs to another app"));
        }
        Some(_) => return Err(ApiError::bad_request("Unknown auth_key")),
    }
    match parameter(&parameters, "auth_version") {
        None => return Err(ApiError::unauthorized("Version required")),
        Some("1.0") => {}
        Some(_) => return Err(ApiError::unauthorized("Version not supported")),
    }
    check_timestamp(parameter(&parameters, "auth_timestamp"), now)?;
    let signature = parameter(&parameters, "auth_signature")
        .ok_or_else(|| ApiError::unauthorized("Missing parameter: auth_signature"))?;
    check_signature(app, line, &parameters, signature)?;
    Ok(Authenticated { parameters })
}

fn check_timestamp(timestamp: Option<&str>, now: SystemTime) -> Result<(), ApiError> {
    let seconds: u64 = timestamp
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::unauthorized("Timestamp required"))?;
    let given = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let now_s = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now_s.abs_diff(seconds) < WINDOW_S {
        return Ok(());
    }
    // Dates beyond the year 9999 can't be written, and are shown as they were sent.
    let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let given = given
        .filter(|given| *given <= year_9999)
        .map_or_else(|| seconds.to_string(), |given| format_rfc3339_seconds(given).to_string());
    Err(ApiError::unauthorized(format!(
        "Timestamp expired: Given timestamp ({given}) not within {WINDOW_S}s of server time ({})",
        format_rfc3339_seconds(now)
    )))
}

/// Tries what SDKs sign, the usual first.
fn check_signature(
    app: &App,
    line: RequestLine<'_>,
    parameters: &[Parameter<'_>],
    signature: &str,
) -> Result<(), ApiError> {
    let usual_query = sorted(parameters, true);
    let usual = signature::request_string(line.method.as_str(), line.path, &usual_query);
    if app.signer.verify(&usual, signature) {
        return Ok(());
    }
    let queries = [usual_query, sorted(parameters, false), php_arrays(parameters)];
    let is_signed = paths(line).iter().any(|path| {
        queries.iter().any(|query| {
            let text = signature::request_string(line.method.as_str(), path, query);
            app.signer.verify(&text, signature)
        })
    });
    if is_signed {
        return Ok(());
    }
    let signature = &signature[..signature.floor_char_boundary(200)];
    Err(ApiError::unauthorized(format!(
        "Invalid signature: you should have sent HmacSHA256Hex({usual:?}, your_secret_key), \
         but you sent {signature:?}"
    )))
}

/// The paths that may have been signed: as it came, without our prefix, and both decoded, since
/// proxies may have encoded what the SDK signed raw.
fn paths(line: RequestLine<'_>) -> Vec<String> {
    let bare = line.path.strip_prefix(line.prefix).unwrap_or(line.path);
    let decoded = |path: &str| percent_decode_str(path).decode_utf8_lossy().into_owned();
    let mut paths = vec![line.path.to_owned(), bare.to_owned(), decoded(line.path), decoded(bare)];
    paths.dedup();
    paths
}

/// All parameters but the signature, in the order in which they are signed.
fn sorted<'a>(parameters: &'a [Parameter<'_>], in_lower_case: bool) -> Vec<Parameter<'a>> {
    let mut sorted: Vec<Parameter<'a>> = parameters
        .iter()
        .filter(|(key, _)| key != "auth_signature")
        .map(|(key, value)| (Cow::Borrowed(&**key), Cow::Borrowed(&**value)))
        .collect();
    for (key, _) in &mut sorted {
        if in_lower_case && key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            key.to_mut().make_ascii_lowercase();
        }
    }
    // Stable: values of one key keep their order.
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted
}

/// The PHP SDK sends `k[0]=a&k[1]=b` and signs `k=a,b`.
fn php_arrays<'a>(parameters: &'a [Parameter<'_>]) -> Vec<Parameter<'a>> {
    let mut joined = BTreeMap::<String, String>::new();
    for (key, value) in sorted(parameters, true) {
        let name = key.split('[').next().unwrap_or_default();
        if let Some(values) = joined.get_mut(name) {
            values.extend([",", &value]);
        } else {
            joined.insert(name.to_owned(), value.into_owned());
        }
    }
    joined.into_iter().map(|(name, values)| (name.into(), values.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppConfig, Secret};

    const NOW_S: u64 = 1_353_088_179;

    fn app() -> App {
        let mut config = AppConfig::development();
        config.key = "278d425bdf160c739803".into();
        config.secret = Secret::new("7ad3773142a6692b25b8");
        App::new(config)
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S)
    }

    fn check<'a>(
        method: &'a Method,
        path: &'a str,
        query: &'a str,
    ) -> Result<Authenticated<'a>, String> {
        let line = RequestLine { method, path, query, prefix: "/ws" };
        authenticate(&app(), line, now(), |key| key == "other")
            .map_err(|error| format!("{error:?}"))
    }

    const KEY: &str = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";

    fn signed(path: &str, canonical: &str) -> String {
        app().signer.sign(&format!("GET\n{path}\n{canonical}"))
    }

    #[test]
    fn the_published_vectors_verify() {
        for (method, path, more, signature) in [
            (
                Method::POST,
                "/apps/3/events",
                "&body_md5=ec365a775a4cd0599faeb73354201b6f",
                "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
            ),
            (
                Method::GET,
                "/apps/3/channels",
                "&filter_by_prefix=presence-&info=user_count",
                "16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291",
            ),
            (
                Method::GET,
                "/apps/3/channels/presence-foobar",
                "&info=user_count,subscription_count",
                "377ee9260ea002a70c0d40cd887d55cb36db9f7f821297f5efacbcce66be356d",
            ),
            (
                Method::GET,
                "/apps/3/channels/presence-foobar",
                "&info=user_count%2Csubscription_count",
                "377ee9260ea002a70c0d40cd887d55cb36db9f7f821297f5efacbcce66be356d",
            ),
            (
                Method::GET,
                "/apps/3/channels",
                "&body_md5=d41d8cd98f00b204e9800998ecf8427e",
                "5c3cd75022c4f62c35ad22f6a9cce366c860477a3b7092ca790ecfc17e6af302",
            ),
            (
                Method::POST,
                "/apps/3/users/12345/terminate_connections",
                "&body_md5=99914b932bd37a50b983c5e7c90ae93b",
                "01fa634edeb0cae84115307cad5c23f65a46cd286461b1c89637a3b5871a8f0e",
            ),
        ] {
            let query = format!("{KEY}{more}&auth_signature={signature}");
            assert!(check(&method, path, &query).is_ok(), "{path}{more}");
            let shuffled = format!("auth_signature={signature}{more}&{KEY}");
            assert!(check(&method, path, &shuffled).is_ok(), "{path}{more}");
        }
    }

    #[test]
    fn paths_verify_with_and_without_prefix_raw_and_decoded() {
        let query = |path: &str| format!("{KEY}&auth_signature={}", signed(path, KEY));
        let path = "/apps/3/channels/presence-a;b";
        assert!(check(&Method::GET, path, &query(path)).is_ok());
        assert!(check(&Method::GET, "/apps/3/channels/presence-a%3Bb", &query(path)).is_ok());
        assert!(check(&Method::GET, "/ws/apps/3/channels/presence-a;b", &query(path)).is_ok());
        let prefixed = "/ws/apps/3/channels";
        assert!(check(&Method::GET, prefixed, &query(prefixed)).is_ok());
        assert!(check(&Method::GET, "/apps/3/channels", &query(path)).is_err());
    }

    #[test]
    fn arrays_and_cases_verify_as_their_sdks_sign_them() {
        let path = "/apps/3/channels";
        for (sent, canonical) in [
            ("k[]=b&k[]=a", format!("{KEY}&k[]=b&k[]=a")),
            ("k%5B0%5D=b&k%5B1%5D=a", format!("{KEY}&k=b,a")),
            ("Zebra=1", format!("{KEY}&zebra=1")),
            ("Zebra=1", format!("Zebra=1&{KEY}")),
        ] {
            let query = format!("{KEY}&{sent}&auth_signature={}", signed(path, &canonical));
            assert!(check(&Method::GET, path, &query).is_ok(), "{sent} as {canonical}");
        }
    }

    #[test]
    fn each_flaw_is_named() {
        let check = |query: &str| check(&Method::GET, "/apps/3/channels", query).unwrap_err();
        for (query, words) in [
            ("", "Missing parameter: auth_key"),
            ("auth_key=nope", "Unknown auth_key"),
            ("auth_key=other", "belongs to another app"),
            ("auth_key=278d425bdf160c739803", "Version required"),
            ("auth_key=278d425bdf160c739803&auth_version=2.0", "Version not supported"),
            ("auth_key=278d425bdf160c739803&auth_version=1.0", "Timestamp required"),
            (KEY, "Missing parameter: auth_signature"),
        ] {
            assert!(check(query).contains(words), "{query}: {}", check(query));
        }
        let flaw = check(&format!("{KEY}&auth_signature=00"));
        assert!(flaw.contains(r"GET\\n/apps/3/channels\\nauth_key="), "{flaw}");
    }

    #[test]
    fn a_timestamp_is_good_for_less_than_ten_minutes_either_way() {
        for (offset, is_good) in [(-599, true), (-600, false), (599, true), (600, false)] {
            let timestamp = NOW_S.saturating_add_signed(offset).to_string();
            assert_eq!(check_timestamp(Some(&timestamp), now()).is_ok(), is_good, "{offset}");
        }
        for garbage in ["", "x", "-1", "18446744073709551615", "99999999999999999999"] {
            assert!(check_timestamp(Some(garbage), now()).is_err(), "{garbage}");
        }
    }

    #[test]
    fn the_body_must_be_the_one_that_was_signed() {
        let with_md5 = |md5: Option<&'static str>| Authenticated {
            parameters: md5.map(|md5| ("body_md5".into(), md5.into())).into_iter().collect(),
        };
        let of_braces = "99914b932bd37a50b983c5e7c90ae93b";
        assert!(with_md5(Some(of_braces)).check_body(b"{}").is_ok());
        assert!(with_md5(Some(of_braces)).check_body(b"{ }").is_err());
        assert!(with_md5(Some(of_braces)).check_body(b"").is_err());
        assert!(with_md5(None).check_body(b"{}").is_err());
        assert!(with_md5(None).check_body(b"").is_ok());
        assert!(with_md5(Some(EMPTY_MD5)).check_body(b"").is_ok());
    }
}
