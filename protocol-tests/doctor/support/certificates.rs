//! Certificates of an authority of the tests, right and wrong.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use kit::Directory;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

/// An authority that signs itself.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: Directory,
    issued: AtomicUsize,
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// The certificate and what follows it in the chain.
    pub(crate) chain: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
    /// Both in one file, as `haproxy` reads them.
    pub(crate) both: PathBuf,
}

/// What is special about a certificate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// The name, in place of those of this machine.
    pub(crate) name: Option<&'static str>,
    /// The first day on which it has expired.
    pub(crate) until: Option<(i32, u8, u8)>,
    /// For how many days from now it is valid.
    pub(crate) days: Option<u32>,
    /// The first day on which it is valid.
    pub(crate) since: Option<(i32, u8, u8)>,
    pub(crate) kind: Kind,
}

/// How a certificate is issued.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    #[default]
    Usual,
    /// By an intermediate authority that is missing from the chain.
    WithoutIntermediate,
    /// By an authority whose certificate, which follows it, has expired.
    ExpiredIntermediate,
    /// For clients only.
    ForClients,
    /// For six days, of which one has passed.
    ShortLived,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(authority("Doctor Test Root"), key);
        Self {
            issuer: issuer.expect("the key can sign"),
            directory: Directory::new(),
            issued: AtomicUsize::new(0),
        }
    }

    /// The file with the certificate of the authority.
    pub(crate) fn file(&self) -> String {
        path_text(&self.directory.write("root.pem", &self.issuer.pem()))
    }

    /// Issues a certificate for this machine.
    pub(crate) fn issue(&self) -> Issued {
        self.issue_as(Wanted::default())
    }

    /// Issues a certificate.
    pub(crate) fn issue_as(&self, wanted: Wanted) -> Issued {
        let names = match wanted.name {
            Some(name) => vec![name.to_owned()],
            None => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut parameters = CertificateParams::new(names).expect("the names are names");
        parameters.distinguished_name.push(DnType::CommonName, "Doctor Test Server");
        if let Some((year, month, day)) = wanted.until {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(year, month, day);
        }
        if let Some(days) = wanted.days {
            parameters.not_after = (SystemTime::now() + Duration::from_secs(86_400) * days).into();
        }
        if wanted.kind == Kind::ShortLived {
            let day = Duration::from_secs(86_400);
            parameters.not_before = (SystemTime::now() - day).into();
            parameters.not_after = (SystemTime::now() + 5 * day).into();
        }
        if let Some((year, month, day)) = wanted.since {
            parameters.not_before = date_time_ymd(year, month, day);
        }
        if wanted.kind == Kind::ForClients {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        let key = KeyPair::generate().expect("there is randomness");
        if wanted.kind == Kind::ExpiredIntermediate {
            let mut intermediate = authority("Doctor Test Intermediate");
            intermediate.not_after = date_time_ymd(2021, 2, 3);
            let own = KeyPair::generate().expect("there is randomness");
            let issuer = CertifiedIssuer::signed_by(intermediate, own, &self.issuer);
            let issuer = issuer.expect("the key can sign");
            let leaf = parameters.signed_by(&key, &issuer).expect("the key can sign");
            return self.write(&(leaf.pem() + &issuer.pem()), &key.serialize_pem());
        }
        let certificate = if wanted.kind == Kind::WithoutIntermediate {
            // Where the issuer's certificate is, which public authorities name: id-ad-caIssuers with a URL.
            let url = b"http://127.0.0.1/issuer.der";
            let length = u8::try_from(url.len()).expect("it is short");
            let mut content = vec![0x30, 14 + length, 0x30, 12 + length];
            content.extend([0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, length]);
            content.extend(url);
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
            parameters.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
            let intermediate = KeyPair::generate().expect("there is randomness");
            let issuer = CertifiedIssuer::signed_by(
                authority("Doctor Test Intermediate"),
                intermediate,
                &self.issuer,
            );
            parameters.signed_by(&key, &issuer.expect("the key can sign"))
        } else {
            parameters.signed_by(&key, &self.issuer)
        };
        let pem = certificate.expect("the key can sign").pem();
        self.write(&pem, &key.serialize_pem())
    }

    /// A certificate that signs itself, and is that of a CA, as `openssl req -x509` makes it.
    pub(crate) fn self_signed_ca(&self) -> Issued {
        let mut parameters =
            CertificateParams::new(vec!["localhost".to_owned()]).expect("the name is a name");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = parameters.self_signed(&key).expect("the key can sign");
        self.write(&certificate.pem(), &key.serialize_pem())
    }

    /// A certificate that signs itself.
    pub(crate) fn self_signed(&self) -> Issued {
        let certificate = kit::tls::Certificate::new();
        self.write(&certificate.cert, &certificate.key)
    }

    fn write(&self, chain: &str, key: &str) -> Issued {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let write =
            |name: &str, text: &str| self.directory.write(&format!("{number}-{name}"), text);
        Issued {
            chain: write("chain.pem", chain),
            key: write("key.pem", key),
            both: write("both.pem", &format!("{chain}{key}")),
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

/// A path of a file of a test, as text.
pub(crate) fn path_text(path: &std::path::Path) -> String {
    path.to_str().expect("the folder for temporary files has a name in UTF-8").to_owned()
}
