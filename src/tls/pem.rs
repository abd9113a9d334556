//! Reads PEM files, and explains what a wrong one contains.

use crate::file::read as read_file;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error, PemObject},
};

/// The certificates in `file`, at least one, or the error message.
pub(super) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    const MUST: &str = "must contain a certificate in PEM";
    let bytes = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_none) => Err(other(MUST, &bytes, |label| match label {
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                Some("a certificate request (CSR): use the certificate that the CA issued for it")
            }
            "PKCS7" => Some("PKCS#7: openssl pkcs7 -print_certs converts it"),
            "TRUSTED CERTIFICATE" => {
                Some("an OpenSSL TRUSTED CERTIFICATE: convert it with openssl x509")
            }
            label if label.ends_with("PRIVATE KEY") => {
                Some("a private key: are the files of certificate and key swapped?")
            }
            _other => None,
        })),
        Err(_damaged) => Err(format!("{MUST}, and its content is damaged")),
    }
}

/// The private key in `file`, or the error message. No message quotes content, which may be
/// secret.
pub(super) fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, String> {
    const MUST: &str = "must hold a private key in PEM";
    let bytes = read(file)?;
    let has_passphrase = labels(&bytes).any(|label| label == "ENCRYPTED PRIVATE KEY")
        || String::from_utf8_lossy(&bytes).contains("Proc-Type: 4,ENCRYPTED");
    if has_passphrase {
        return Err("contains a private key with a passphrase, which is not supported: \
                    openssl pkey -in FILE -out NEW writes one without"
            .to_owned());
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) => Err(other(MUST, &bytes, |label| match label {
            "CERTIFICATE" => Some("a certificate: are the files of certificate and key swapped?"),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Some("a public key"),
            "OPENSSH PRIVATE KEY" => Some("a key of OpenSSH, which TLS does not use"),
            "DSA PRIVATE KEY" => Some("a DSA key, which TLS does not use"),
            "EC PARAMETERS" => Some("the parameters of a curve, without a key"),
            _other => None,
        })),
        Err(_damaged) => Err(format!("{MUST}, and its content is damaged")),
    }
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    read_file(file).map_err(|error| format!("cannot be read: {error}"))
}

/// The error `must`, followed by what the file contains instead; `known` describes a label.
fn other(must: &str, bytes: &[u8], known: fn(&str) -> Option<&'static str>) -> String {
    if bytes.trim_ascii().is_empty() {
        format!("{must}, and is empty")
    } else if bytes.starts_with(&[0x30]) {
        format!("{must}, and is in DER or PKCS#12: openssl x509, pkey or pkcs12 converts it")
    } else {
        match labels(bytes).find_map(|label| known(&label)) {
            Some(what) => format!("{must}, and holds {what}"),
            None => must.to_owned(),
        }
    }
}

/// The labels of the sections.
fn labels(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
        Some(String::from_utf8_lossy(line).into_owned())
    })
}

/// Object identifiers of key types that no handshake here can use.
const UNUSABLE: [(&[u8], &str); 8] = [
    (&[6, 5, 0x2b, 0x81, 4, 0, 0x23], "the curve P-521"),
    (&[6, 5, 0x2b, 0x81, 4, 0, 0x0a], "the curve secp256k1"),
    (&[6, 5, 0x2b, 0x81, 4, 0, 0x21], "the curve P-224"),
    (&[6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7], "the curve brainpoolP256r1"),
    (&[6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 11], "the curve brainpoolP384r1"),
    (&[6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 13], "the curve brainpoolP512r1"),
    (&[6, 3, 0x2b, 0x65, 0x71], "the curve Ed448"),
    (&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
];

/// The unsupported type of `key`, if it is known to be one.
pub(super) fn unusable(key: &PrivateKeyDer<'_>) -> Option<&'static str> {
    let der = key.secret_der();
    let is_in = |id: &[u8]| der.windows(id.len()).any(|window| window == id);
    UNUSABLE.iter().find_map(|(id, name)| is_in(id).then_some(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_contains_the_unsupported_type_of_a_key() {
        for (id, name) in UNUSABLE {
            for (before, after) in
                [(&b""[..], &b""[..]), (b"\x30\x10", b"\x04\x01"), (b"\x30", b"")]
            {
                let key = PrivateKeyDer::Pkcs8([before, id, after].concat().into());
                assert_eq!(unusable(&key), Some(name));
            }
            let key = PrivateKeyDer::Pkcs8(id[..id.len() - 1].to_vec().into());
            assert_eq!(unusable(&key), None, "a part of {name}");
        }
    }
}
