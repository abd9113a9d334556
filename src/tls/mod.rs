//! TLS in this process: certificate and key, read from files at startup and at each reload.

mod pem;
mod roots;
#[cfg(test)]
pub(crate) mod testing;

pub use roots::{
    check_authorities, client_builder, client_config, file_roots, is_root, system_roots,
};

use crate::config::TlsConfig;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, ProducesTickets},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_cert::{Certificate, certificate::Version, der::Decode};

/// The certificate chain, key and rustls configuration of the server.
///
/// A handshake uses the certificate that is current when it begins; open connections are not
/// affected by a reload.
#[derive(Debug)]
pub struct Tls {
    tickets: Arc<dyn ProducesTickets>,
    chain: Vec<CertificateDer<'static>>,
    period: ValidityPeriod,
    config: Arc<ServerConfig>,
}

/// Errors in certificates and keys. Each one has the setting that names the file, the file, and the
/// message.
#[derive(Debug)]
pub struct TlsError(Vec<FileError>);

#[derive(Debug)]
struct FileError {
    setting: &'static str,
    file: String,
    message: String,
}

const CERT: &str = "server.tls.cert";
const KEY: &str = "server.tls.key";
const CA: &str = "redis.ca";

/// Session tickets sent per connection, with which a returning client saves half of the handshake.
/// Each costs a record per connection; browsers use one.
const TICKETS: usize = 1;

impl Tls {
    /// Reads the files, if the configuration names any. Session tickets issued by `before` remain
    /// valid.
    ///
    /// # Errors
    ///
    /// A file can't be read, contains no certificate or no key, or the two do not match.
    pub fn load(files: &TlsConfig, before: Option<&Self>) -> Result<Option<Self>, TlsError> {
        if files.cert.is_empty() {
            return Ok(None);
        }
        let tickets = match before {
            Some(before) => Arc::clone(&before.tickets),
            None => ring::Ticketer::new()
                .map_err(|error| FileError::of(KEY, &files.key)(error.to_string()))?,
        };
        let chain = pem::certificates(&files.cert).map_err(FileError::of(CERT, &files.cert));
        let key = pem::private_key(&files.key).map_err(FileError::of(KEY, &files.key));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => {
                return Err(TlsError(chain.err().into_iter().chain(key.err()).collect()));
            }
        };
        let period = ValidityPeriod::of(&chain, &files.cert)?;
        let config = Arc::new(read(files, chain.clone(), key, &tickets)?);
        Ok(Some(Self { tickets, chain, period, config }))
    }

    /// When the first certificate of the chain expires, in seconds since 1970, if it can be parsed.
    #[must_use]
    pub fn expiry(&self) -> Option<u64> {
        self.period.until.map(|until| until.as_secs())
    }

    /// The warning about the validity period of the certificates at `now`, if there is one.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let date = |time| humantime::format_rfc3339_seconds(UNIX_EPOCH + time);
        let ValidityPeriod { since, until } = self.period;
        match (since.filter(|since| now < *since), until.filter(|until| *until < now)) {
            (_, Some(until)) => {
                Some(format!("contains a certificate that expired on {}", date(until)))
            }
            (Some(since), None) => {
                Some(format!("contains a certificate that is not valid before {}", date(since)))
            }
            (None, None) => None,
        }
    }

    /// The configuration for new handshakes.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether both have the same certificate.
    #[must_use]
    pub fn has_same_chain(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

/// The cryptography provider of every handshake, as server and as client.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads the certificates of a PEM file; at least one.
///
/// # Errors
///
/// The file can't be read, or contains no certificate.
pub fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    Ok(pem::certificates(file).map_err(FileError::of("", file))?)
}

/// The validity period of a chain of certificates.
#[derive(Clone, Copy, Debug)]
struct ValidityPeriod {
    since: Option<Duration>,
    until: Option<Duration>,
}

impl ValidityPeriod {
    /// Parses the certificates, as far as possible: rustls verifies the rest.
    fn of(chain: &[CertificateDer<'_>], file: &str) -> Result<Self, TlsError> {
        let parsed: Vec<_> =
            chain.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
        let tbs = || parsed.iter().map(Certificate::tbs_certificate);
        if chain.len() == parsed.len()
            && tbs().next().is_some_and(|tbs| tbs.version() != Version::V3)
        {
            let message = "contains an X.509 v1 certificate, which clients reject: issue one with a \
                        subjectAltName";
            return Err(FileError::of(CERT, file)(message.to_owned()).into());
        }
        Ok(Self {
            since: tbs().map(|tbs| tbs.validity().not_before.to_unix_duration()).max(),
            until: tbs().map(|tbs| tbs.validity().not_after.to_unix_duration()).min(),
        })
    }
}

fn read(
    files: &TlsConfig,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    // Checked separately, so that the error names the right file.
    let signing = provider.key_provider.load_private_key(key.clone_key()).map_err(|error| {
        let what = pem::unusable(&key).map_or_else(|| error.to_string(), str::to_owned);
        let message = format!(
            "holds a private key that can't be used: {what}; P-256, P-384, Ed25519 and RSA of 2048 \
             to 4096 bits can be"
        );
        FileError::of(KEY, &files.key)(message)
    })?;
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&signing)).keys_match().is_ok()
    };
    let is_out_of_order = !fits(&chain[0]) && chain.iter().any(fits);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| {
            let why = if is_out_of_order {
                "the matching certificate is in the file, but not first".to_owned()
            } else {
                error.to_string()
            };
            let key = &files.key;
            let message =
                format!("must hold the certificate of the key in {key} as its first: {why}");
            FileError::of(CERT, &files.cert)(message)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A ticket carries the state of a session, so nothing is stored for clients that may never
    // return.
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

impl FileError {
    /// Returns a constructor of errors for a `file` that `setting` names.
    fn of(setting: &'static str, file: &str) -> impl Fn(String) -> Self {
        move |message| Self { setting, file: file.to_owned(), message }
    }
}

impl From<FileError> for TlsError {
    fn from(error: FileError) -> Self {
        Self(vec![error])
    }
}

impl TlsError {
    /// The errors: the setting that names the file, and the file with the error message.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0
            .iter()
            .map(|FileError { setting, file, message }| (*setting, format!("{file}: {message}")))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<_> = self.errors().map(|(_, error)| error).collect();
        f.write_str(&errors.join(" | "))
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    /// A temporary folder of one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("campanile-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn certified() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn the_error_of_an_invalid_file_has_its_path_and_rule() {
        let folder = Folder::new("bad-file");
        let (cert_pem, key_pem) = certified();
        let cert = folder.write("cert.pem", &cert_pem);
        let key = folder.write("key.pem", &key_pem);
        let other = folder.write("other.pem", &certified().1);
        let empty = folder.write("empty.pem", "nothing\n");
        let cut = folder.write("cut.pem", &key_pem[..key_pem.len() / 2]);
        let nonsense =
            folder.write("x.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let missing = folder.0.join("missing.pem").to_str().unwrap().to_owned();
        for (cert, key, blamed, message) in [
            (&missing, &key, &missing, "cannot be read: No such file"),
            (&cert, &missing, &missing, "cannot be read: No such file"),
            (&empty, &key, &empty, "must contain a certificate in PEM"),
            (&cert, &empty, &empty, "must hold a private key in PEM"),
            (&cert, &cut, &cut, "must hold a private key in PEM, and its content is damaged"),
            (&cert, &nonsense, &nonsense, "holds a private key that can't be used"),
            (&cert, &other, &cert, "must hold the certificate of the key in"),
        ] {
            let error =
                Tls::load(&TlsConfig { cert: cert.clone(), key: key.clone() }, None).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with(blamed.as_str()), "{said}");
            assert!(said.contains(message), "{said}");
            assert!(!said.contains(&key_pem[30..60]), "{said}");
        }
    }

    fn openssl(folder: &Folder, arguments: &str) {
        let run = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&folder.0)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    #[test]
    fn errors_describe_what_a_file_contains_instead() {
        let folder = Folder::new("instead");
        for command in [
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=a -days 9",
            "pkey -in key.pem -aes128 -passout pass:x -out pkcs8.pem",
            "rsa -in key.pem -aes128 -passout pass:x -traditional -out pkcs1.pem",
            "pkey -in key.pem -outform der -out key.der",
            "pkey -in key.pem -pubout -out public.pem",
            "x509 -in cert.pem -outform der -out cert.der",
            "req -new -key key.pem -subj /CN=a -out csr.pem",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.pem",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k1.pem",
            "genpkey -algorithm ED448 -out ed448.pem",
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.pem",
            "x509 -req -in csr.pem -signkey key.pem -out v1.pem",
            "req -x509 -newkey rsa:2048 -nodes -keyout o.pem -out other.pem -subj /CN=b -days 9",
        ] {
            openssl(&folder, command);
        }
        folder.write("empty.pem", " \n");
        let read = |name: &str| fs::read_to_string(folder.0.join(name)).unwrap();
        folder.write("reversed.pem", &(read("other.pem") + &read("cert.pem")));
        let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
        let load = |cert: &str, key: &str| {
            Tls::load(&TlsConfig { cert: path(cert), key: path(key) }, None)
        };
        assert!(load("cert.pem", "key.pem").is_ok());
        for (cert, key, setting, message) in [
            ("key.pem", "key.pem", CERT, "swapped?"),
            ("cert.pem", "cert.pem", KEY, "swapped?"),
            ("cert.pem", "pkcs8.pem", KEY, "with a passphrase"),
            ("cert.pem", "pkcs1.pem", KEY, "with a passphrase"),
            ("cert.pem", "key.der", KEY, "is in DER"),
            ("cert.pem", "public.pem", KEY, "a public key"),
            ("cert.pem", "empty.pem", KEY, "is empty"),
            ("cert.pem", "p521.pem", KEY, "the curve P-521"),
            ("cert.pem", "k1.pem", KEY, "the curve secp256k1"),
            ("cert.pem", "ed448.pem", KEY, "the curve Ed448"),
            ("cert.pem", "small.pem", KEY, "RSA of 2048"),
            ("cert.der", "key.pem", CERT, "is in DER"),
            ("csr.pem", "key.pem", CERT, "(CSR)"),
            ("empty.pem", "key.pem", CERT, "is empty"),
            ("v1.pem", "key.pem", CERT, "X.509 v1"),
            ("other.pem", "key.pem", CERT, "must hold the certificate of the key in"),
            ("reversed.pem", "key.pem", CERT, "but not first"),
        ] {
            let error = load(cert, key).unwrap_err();
            let errors: Vec<_> = error.errors().collect();
            assert!(
                matches!(errors.as_slice(), [(named, said)] if *named == setting && said.contains(message)),
                "{cert} {key}: {errors:?}"
            );
        }
        let both = load("key.pem", "cert.pem").unwrap_err();
        assert_eq!(both.errors().map(|(setting, _)| setting).collect::<Vec<_>>(), [CERT, KEY]);
        assert!(check_authorities(&path("cert.pem")).is_ok());
        for (file, message) in [("key.pem", "a private key"), ("none.pem", "cannot be read")] {
            let error = check_authorities(&path(file)).unwrap_err();
            assert!(error.errors().all(|(setting, said)| setting == CA && said.contains(message)));
        }
    }

    #[test]
    fn the_validity_of_a_certificate_is_reported() {
        let folder = Folder::new("time");
        let command =
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=a -days 9";
        openssl(&folder, command);
        let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
        let files = TlsConfig { cert: path("cert.pem"), key: path("key.pem") };
        let tls = Tls::load(&files, None).unwrap().unwrap();
        let now = SystemTime::now();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let expiry = UNIX_EPOCH + Duration::from_secs(tls.expiry().unwrap());
        assert!(now + days(8) < expiry && expiry < now + days(10));
        assert_eq!(tls.warning(now), None);
        let date = humantime::format_rfc3339_seconds(expiry);
        let expired = format!("contains a certificate that expired on {date}");
        assert_eq!(tls.warning(now + days(10)), Some(expired));
        assert!(tls.warning(now - days(1)).unwrap().contains("is not valid before"));
    }

    #[test]
    fn another_certificate_is_distinguished_from_the_same_one() {
        let folder = Folder::new("another");
        let write = |(cert, key): (String, String)| TlsConfig {
            cert: folder.write("cert.pem", &cert),
            key: folder.write("key.pem", &key),
        };
        let files = write(certified());
        let first = Tls::load(&files, None).unwrap().unwrap();
        assert!(first.has_same_chain(&Tls::load(&files, Some(&first)).unwrap().unwrap()));
        let files = write(certified());
        assert!(!first.has_same_chain(&Tls::load(&files, Some(&first)).unwrap().unwrap()));
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(Tls::load(&TlsConfig::default(), None).unwrap().is_none());
    }
}
