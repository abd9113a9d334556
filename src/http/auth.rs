//! Authenticates requests of the HTTP API by their signature.

use super::{
    query::{self, Parameter, Query},
    response::ApiError,
    signed_paths::signed_paths,
};
use crate::{app::App, signature};
use humantime::format_rfc3339_seconds;
use hyper::Method;
use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// The parameters of a request with a valid signature, as they were signed. Its body may still
/// differ from the one that was signed.
#[derive(Debug)]
pub(super) struct Authenticated<'a> {
    parameters: Vec<Parameter<'a>>,
}

/// The line and query of a request, as received.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Path prefix of all routes (`server.path`); SDKs sign with or without it.
    pub(super) prefix: &'a str,
}

/// The parameters that authenticate a request. Each must be given exactly once, by its plain name,
/// as SDKs send it: another form may have the same signature as a parameter with another meaning.
const AUTHENTICATING: [&str; 5] =
    ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5"];
/// Maximum age of a timestamp, exclusive, in seconds, in both directions. Source: Pusher's
/// signature library.
const WINDOW_S: u64 = 600;
/// The MD5 of an empty body, which the Python SDK sends with every GET.
const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

impl Authenticated<'_> {
    /// The value of a parameter.
    pub(super) fn parameter(&self, key: &str) -> Option<&str> {
        parameter(&self.parameters, key)
    }

    /// Checks that `body` has the signed digest.
    pub(super) fn check_body(&self, body: &[u8]) -> Result<(), ApiError> {
        let sent = self.parameter("body_md5");
        match (body.is_empty(), sent) {
            (true, None | Some(EMPTY_MD5)) => Ok(()),
            (false, Some(sent)) if signature::is_body_md5(body, sent) => Ok(()),
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

/// Checks the head of a request, in the order of Pusher's library, so that the same mistake gets
/// the same message. `is_other_key` says whether a key belongs to another app.
pub(super) fn authenticate<'a>(
    app: &App,
    line: RequestLine<'a>,
    now: SystemTime,
    is_other_key: impl Fn(&str) -> bool,
) -> Result<Authenticated<'a>, ApiError> {
    let Query { mut parameters, signed } = query::parse(line.query);
    reject_ambiguous(&parameters)?;
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
    let at = parameters
        .iter()
        .position(|(key, _)| key == "auth_signature")
        .ok_or_else(|| ApiError::unauthorized("Missing parameter: auth_signature"))?;
    let (_, signature) = parameters.remove(at);
    // The usual case, for which no text is built.
    if signed.is_some_and(|signed| is_signed(app, line, signed, &signature)) {
        return Ok(Authenticated { parameters });
    }
    Ok(Authenticated { parameters: find_signed_form(app, line, parameters, &signature)? })
}

/// Whether a request has the right signature, whose query is in its canonical form.
fn is_signed(app: &App, line: RequestLine<'_>, query: [&str; 2], signature: &str) -> bool {
    let [before, after] = query;
    let parts = [line.method.as_str(), "\n", line.path, "\n", before, after].map(str::as_bytes);
    app.signer.verify_parts(parts, signature)
}

/// Rejects parameters whose signature is ambiguous: parameters are signed without escapes, so an
/// escaped `&` or `=` would be read as a separator.
fn reject_ambiguous(parameters: &[Parameter<'_>]) -> Result<(), ApiError> {
    let mut seen = [false; AUTHENTICATING.len()];
    for (key, value) in parameters {
        // Only an escaped separator is part of a key or value.
        let has = |text: &Cow<'_, str>, separators: &[char]| matches!(text, Cow::Owned(text) if text.contains(separators));
        if has(key, &['&', '=']) || has(value, &['&']) {
            return Err(ApiError::bad_request(
                "Query parameters can't have & in them, nor = in their names, escaped or not",
            ));
        }
        // Most parameters are these, as they are.
        let known = AUTHENTICATING.iter().position(|name| name == key).or_else(|| {
            let base = key.split('[').next().unwrap_or_default();
            AUTHENTICATING.iter().position(|name| name.eq_ignore_ascii_case(base))
        });
        let Some(index) = known else { continue };
        if std::mem::replace(&mut seen[index], true) || key != AUTHENTICATING[index] {
            let message =
                format!("{} must be given exactly once, under this name", AUTHENTICATING[index]);
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
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
    // Dates after the year 9999 have no RFC 3339 form and are shown as received.
    let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let given = given
        .filter(|given| *given <= year_9999)
        .map_or_else(|| seconds.to_string(), |given| format_rfc3339_seconds(given).to_string());
    Err(ApiError::unauthorized(format!(
        "Timestamp expired: Given timestamp ({given}) not within {WINDOW_S}s of server time ({})",
        format_rfc3339_seconds(now)
    )))
}

/// Tries the forms in which SDKs sign parameters, the most common first. Returns the parameters in
/// the form that was signed, so that only signed parameters are read from a request.
fn find_signed_form<'a>(
    app: &App,
    line: RequestLine<'_>,
    sent: Vec<Parameter<'a>>,
    signature: &str,
) -> Result<Vec<Parameter<'a>>, ApiError> {
    let text = |path: &str, query: &[Parameter<'_>]| {
        signature::request_string_to_sign(line.method.as_str(), path, query)
    };
    let canonical = sorted(in_lower_case(sent.clone()));
    let canonical_text = text(line.path, &canonical);
    if app.signer.verify(&canonical_text, signature) {
        return Ok(canonical);
    }
    let paths = signed_paths(line.path, line.prefix);
    let as_php = sorted(php_arrays(&sent));
    let is_signed = |query: &Vec<Parameter<'_>>| {
        paths.iter().any(|path| app.signer.verify(&text(path, query), signature))
    };
    if let Some(signed) = [canonical, sorted(sent), as_php].into_iter().find(is_signed) {
        return Ok(signed);
    }
    let signature = &signature[..signature.floor_char_boundary(200)];
    Err(ApiError::unauthorized(format!(
        "Invalid signature: you should have sent HmacSHA256Hex({canonical_text:?}, your_secret_key), \
         but you sent {signature:?}"
    ))
    .logged_as("Invalid signature"))
}

/// The parameters in the order in which they are signed. Values of one key keep their order.
fn sorted(mut parameters: Vec<Parameter<'_>>) -> Vec<Parameter<'_>> {
    parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
    parameters
}

fn in_lower_case(mut parameters: Vec<Parameter<'_>>) -> Vec<Parameter<'_>> {
    for (key, _) in &mut parameters {
        if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            key.to_mut().make_ascii_lowercase();
        }
    }
    parameters
}

/// The PHP SDK sends `k[0]=a&k[1]=b` and signs `k=a,b`.
fn php_arrays<'a>(parameters: &[Parameter<'a>]) -> Vec<Parameter<'a>> {
    let mut joined: Vec<Parameter<'a>> = Vec::new();
    let mut places = HashMap::new();
    for (key, value) in parameters {
        let name = key.split('[').next().unwrap_or_default();
        if let Some(&place) = places.get(name) {
            let (_, values): &mut Parameter<'a> = &mut joined[place];
            values.to_mut().extend([",", value]);
        } else {
            places.insert(name, joined.len());
            joined.push((name.to_owned().into(), value.clone()));
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{AppConfig, Secret},
        http::response::LogReason,
    };

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
    fn published_signature_vectors_verify() {
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
    fn array_and_letter_case_forms_of_sdks_verify() {
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
    fn only_signed_parameters_are_read() {
        let path = "/apps/3/channels";
        for (sent, canonical, info) in [
            ("info=b,a", "info=b,a", Some("b,a")),
            ("INFO=a", "info=a", Some("a")),
            ("info[0]=b&info[1]=a", "info=b,a", Some("b,a")),
            ("info[1]=b&info[0]=a", "info=b,a", Some("b,a")),
            ("info[]=a", "info[]=a", None),
            // Eleven values: their keys are not sorted by number.
            (
                "info[0]=0&info[1]=1&info[2]=2&info[3]=3&info[4]=4&info[5]=5&info[6]=6&info[7]=7\
                 &info[8]=8&info[9]=9&info[10]=10",
                "info=0,1,2,3,4,5,6,7,8,9,10",
                Some("0,1,2,3,4,5,6,7,8,9,10"),
            ),
        ] {
            let signature = signed(path, &format!("{KEY}&{canonical}"));
            let query = format!("{KEY}&{sent}&auth_signature={signature}");
            let read = check(&Method::GET, path, &query).unwrap();
            assert_eq!(read.parameter("info"), info, "{sent} as {canonical}");
        }
    }

    #[test]
    fn authentication_parameters_occur_once_with_their_plain_names() {
        let path = "/apps/3/events";
        let md5 = "99914b932bd37a50b983c5e7c90ae93b";
        let sign = |canonical: &str| signed(path, canonical);
        let signature = sign(&format!("{KEY}&body_md5={md5}"));
        let whole = format!("{KEY}&body_md5={md5}&auth_signature={signature}");
        assert!(check(&Method::GET, path, &whole).is_ok());
        for other in [
            whole.replace("body_md5", "body_md5[]"),
            whole.replace("body_md5", "body_md5%5B0%5D"),
            whole.replace("body_md5", "body_md5["),
            whole.replace("body_md5", "BODY_MD5"),
            whole.replace("body_md5", "Body_Md5[a]"),
            whole.replace("auth_key", "auth_key[]"),
            whole.replace("auth_version", "AUTH_VERSION"),
            whole.replace("auth_timestamp", "auth_timestamp[0]"),
            whole.replace("auth_signature", "auth_signature[]"),
            format!("{whole}&body_md5={md5}"),
            format!("{whole}&body_md5[]={md5}"),
            format!("{whole}&auth_signature={signature}"),
            format!("{whole}&AUTH_SIGNATURE=x"),
            format!("auth_key=other&{whole}"),
            format!("{whole}&auth_key=other"),
        ] {
            let error = check(&Method::GET, path, &other).unwrap_err();
            assert!(
                error.contains("must be given exactly once, under this name"),
                "{other}: {error}"
            );
        }
        // The array notations of PHP and Ruby.
        for (sent, canonical) in [
            ("body_md5[]=0", "body_md5=0".to_owned()),
            ("body_md5[]=0", "body_md5[]=0".to_owned()),
            (&format!("body_md5={md5}&body_md5[]=0"), format!("body_md5={md5},0")),
        ] {
            let signature = sign(&format!("{KEY}&{canonical}"));
            let query = format!("{KEY}&{sent}&auth_signature={signature}");
            assert!(check(&Method::GET, path, &query).is_err(), "{sent} as {canonical}");
        }
    }

    #[test]
    fn an_escaped_separator_is_not_read_as_a_separator() {
        let path = "/apps/3/channels";
        let canonical = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
                         &filter_by_prefix=presence-a=b&info=user_count";
        let signature = signed(path, canonical);
        let (key, _) = canonical.split_once("&filter").unwrap();
        for (more, verifies) in [
            ("filter_by_prefix=presence-a=b&info=user_count", true),
            ("filter_by_prefix=presence-a%3Db&info=user_count", true),
            ("filter_by_prefix=presence-a=b%26info=user_count", false),
            ("filter_by_prefix=presence-a=b%26info%3Duser_count", false),
            ("filter_by_prefix%3Dpresence-a=b&info=user_count", false),
            ("filter_by_prefix=presence-a=b&info%3Duser_count", false),
            ("filter_by_prefix%3Dpresence-a%3Db%26info=user_count", false),
        ] {
            let query = format!("{key}&{more}&auth_signature={signature}");
            assert_eq!(check(&Method::GET, path, &query).is_ok(), verifies, "{more}");
        }
    }

    #[test]
    fn each_authentication_error_has_its_message() {
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
        assert!(flaw.contains("you sent"), "{flaw}");
        let line = RequestLine {
            method: &Method::GET,
            path: "/",
            query: &format!("{KEY}&auth_signature=00"),
            prefix: "",
        };
        let error = authenticate(&app(), line, now(), |_| false).unwrap_err();
        let response = error.into_response();
        assert_eq!(response.status(), 401);
        let logged = &response.extensions().get::<LogReason>().unwrap().0;
        assert_eq!(logged, "Invalid signature", "the log does not hold what was signed");
    }

    #[test]
    fn a_timestamp_is_valid_for_less_than_ten_minutes_in_both_directions() {
        for (offset, is_good) in [(-599, true), (-600, false), (599, true), (600, false)] {
            let timestamp = NOW_S.saturating_add_signed(offset).to_string();
            assert_eq!(check_timestamp(Some(&timestamp), now()).is_ok(), is_good, "{offset}");
        }
        for garbage in ["", "x", "-1", "18446744073709551615", "99999999999999999999"] {
            assert!(check_timestamp(Some(garbage), now()).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_timestamp_is_shown_as_a_date_up_to_the_year_9999() {
        for (timestamp, shown) in [
            ("253402300799", "(9999-12-31T23:59:59Z)"),
            ("253402300800", "(253402300800)"),
            ("18446744073709551615", "(18446744073709551615)"),
        ] {
            let error = format!("{:?}", check_timestamp(Some(timestamp), now()).unwrap_err());
            assert!(error.contains(&format!("Given timestamp {shown} not within 600s")), "{error}");
            assert!(error.contains("(2012-11-16T17:49:39Z)"), "{error}");
        }
    }

    #[test]
    fn an_error_quotes_at_most_200_bytes_of_a_wrong_signature() {
        let flaw = |signature: &str| {
            let query = format!("{KEY}&auth_signature={signature}");
            check(&Method::GET, "/apps/3/channels", &query).unwrap_err()
        };
        let repeats = |flaw: &str, count: usize| flaw.matches('y').count() == count;
        // Only the signature contains this letter that often.
        let few = flaw("").matches('y').count();
        assert!(repeats(&flaw(&"y".repeat(200)), few + 200));
        assert!(repeats(&flaw(&"y".repeat(201)), few + 200));
    }

    #[test]
    fn a_body_with_another_digest_is_rejected() {
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
