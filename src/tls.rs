//! TLS in this process: the certificate and its key, read from files at the start and again
//! whenever the operator asks for it.

use crate::config::TlsConfig;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, ProducesTickets},
    version::{TLS12, TLS13},
};
use std::{fmt, path::PathBuf, sync::Arc};

/// What a server says who it is, as its handshakes see it.
///
/// A handshake takes the certificate that is there when it begins; connections that are open keep
/// what they have agreed on.
#[derive(Debug)]
pub struct Tls {
    tickets: Arc<dyn ProducesTickets>,
    chain: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

/// Why a certificate and its key can't be used. The message names the file and the rule.
#[derive(Debug)]
pub struct TlsError {
    file: PathBuf,
    rule: String,
}

/// Tickets with which a client that comes back saves half of the handshake. Each costs a
/// connection a record; browsers use one.
const TICKETS: usize = 1;

impl Tls {
    /// Reads the files, if the configuration names any. Tickets that `before` has given out stay
    /// good.
    ///
    /// # Errors
    ///
    /// A file can't be read, holds no certificate or no key, or the two do not belong together.
    pub fn load(files: &TlsConfig, before: Option<&Self>) -> Result<Option<Self>, TlsError> {
        if files.cert.is_empty() {
            return Ok(None);
        }
        let tickets = match before {
            Some(before) => Arc::clone(&before.tickets),
            None => ring::Ticketer::new()
                .map_err(|error| TlsError::new(&files.key, format_args!("{error}")))?,
        };
        let chain = certificates(&files.cert)?;
        let config = Arc::new(read(files, chain.clone(), &tickets)?);
        Ok(Some(Self { tickets, chain, config }))
    }

    /// What handshakes are to use.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether both show the same certificate.
    #[must_use]
    pub fn shows_the_same_as(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

/// The cryptography of every handshake, as server and as client.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads the certificates of a PEM file; at least one.
///
/// # Errors
///
/// The file can't be read, or holds none.
pub fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::pem(file, &error, "certificate"))?;
    if certificates.is_empty() {
        return Err(TlsError::pem(file, &pem::Error::NoItemsFound, "certificate"));
    }
    Ok(certificates)
}

fn read(
    files: &TlsConfig,
    chain: Vec<CertificateDer<'static>>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::pem(&files.key, &error, "private key"))?;
    let provider = provider();
    // Checked apart, so that the right file is blamed.
    provider.key_provider.load_private_key(key.clone_key()).map_err(|error| {
        TlsError::new(&files.key, format_args!("holds a private key that can't be used: {error}"))
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| {
            let rule =
                format_args!("must hold the certificate of the key in {}: {error}", files.key);
            TlsError::new(&files.cert, rule)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A ticket carries what a stored session would hold, so nothing is kept for who may never
    // come back.
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

impl TlsError {
    fn new(file: &str, rule: impl fmt::Display) -> Self {
        Self { file: file.into(), rule: rule.to_string() }
    }

    fn pem(file: &str, error: &pem::Error, what: &str) -> Self {
        let rule = match error {
            pem::Error::Io(error) => format!("cannot be read: {error}"),
            pem::Error::NoItemsFound => format!("must hold a {what} in PEM"),
            // What else can be wrong with the text; none of it repeats a line that may be secret.
            pem::Error::MissingSectionEnd { .. }
            | pem::Error::IllegalSectionStart { .. }
            | pem::Error::Base64Decode(_)
            | pem::Error::SectionTooLarge
            | _ => format!("must hold a {what} in PEM, and what it holds is damaged"),
        };
        Self::new(file, rule)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.rule)
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// A folder of a test's own.
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
    fn a_bad_file_is_named_with_its_rule() {
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
        for (cert, key, blamed, rule) in [
            (&missing, &key, &missing, "cannot be read: No such file"),
            (&cert, &missing, &missing, "cannot be read: No such file"),
            (&empty, &key, &empty, "must hold a certificate in PEM"),
            (&cert, &empty, &empty, "must hold a private key in PEM"),
            (&cert, &cut, &cut, "must hold a private key in PEM, and what it holds is damaged"),
            (&cert, &nonsense, &nonsense, "holds a private key that can't be used"),
            (&cert, &other, &cert, "must hold the certificate of the key in"),
        ] {
            let error =
                Tls::load(&TlsConfig { cert: cert.clone(), key: key.clone() }, None).unwrap_err();
            let said = error.to_string();
            assert_eq!(error.file, Path::new(blamed), "{said}");
            assert!(said.contains(rule), "{said}");
            assert!(!said.contains(&key_pem[30..60]), "{said}");
        }
    }

    #[test]
    fn another_certificate_is_told_from_the_same_one() {
        let folder = Folder::new("another");
        let write = |(cert, key): (String, String)| TlsConfig {
            cert: folder.write("cert.pem", &cert),
            key: folder.write("key.pem", &key),
        };
        let files = write(certified());
        let first = Tls::load(&files, None).unwrap().unwrap();
        assert!(first.shows_the_same_as(&Tls::load(&files, Some(&first)).unwrap().unwrap()));
        let files = write(certified());
        assert!(!first.shows_the_same_as(&Tls::load(&files, Some(&first)).unwrap().unwrap()));
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(Tls::load(&TlsConfig::default(), None).unwrap().is_none());
    }
}
