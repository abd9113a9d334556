//! The files of the page, which `console/build.mjs` has built into `console/dist`.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{io::Write, sync::OnceLock};

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    /// The last part of its path; empty for the page itself.
    name: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    content: &'static [u8],
    encoded: OnceLock<Encoded>,
}

#[derive(Debug)]
struct Encoded {
    gzip: Bytes,
    etag: String,
}

const fn asset(name: &'static str, content_type: &'static str, content: &'static [u8]) -> Asset {
    Asset { name, content_type, content, encoded: OnceLock::new() }
}

static ASSETS: [Asset; 4] = [
    asset("", "text/html; charset=utf-8", include_bytes!("../../console/dist/index.html")),
    asset("app.js", "text/javascript; charset=utf-8", include_bytes!("../../console/dist/app.js")),
    asset("app.css", "text/css; charset=utf-8", include_bytes!("../../console/dist/app.css")),
    asset("icon.svg", "image/svg+xml", include_bytes!("../../console/dist/icon.svg")),
];

/// Compresses all files, so that requests need not.
pub(super) fn prepare() {
    for asset in &ASSETS {
        asset.encoded();
    }
}

impl Asset {
    /// The file with this name; the page for an empty one.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    /// The file as it is.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        Bytes::from_static(self.content)
    }

    /// The file, compressed by gzip once for all requests.
    #[must_use]
    pub fn gzip(&self) -> Bytes {
        self.encoded().gzip.clone()
    }

    /// The entity tag, which changes with the content.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.encoded().etag
    }

    fn encoded(&self) -> &Encoded {
        self.encoded.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let written = encoder.write_all(self.content).and_then(|()| encoder.finish());
            let hash: [u8; 32] = Sha256::digest(self.content).into();
            let digits = hash[..8].iter().map(|byte| format!("{byte:02x}"));
            Encoded {
                gzip: written.expect("memory takes all bytes").into(),
                etag: format!("\"{}\"", digits.collect::<String>()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// The limit of all files together, compressed.
    const SIZE_MAX: usize = 200 * 1024;

    #[test]
    fn the_page_is_small_and_refers_to_files_that_exist() {
        let size: usize = ASSETS.iter().map(|asset| asset.gzip().len()).sum();
        assert!(size < SIZE_MAX, "{size} bytes");
        let page = std::str::from_utf8(Asset::find("").unwrap().content).unwrap();
        let names = page.split(['"', '\'']).filter(|text| {
            [".js", ".css", ".svg"].iter().any(|extension| text.ends_with(extension))
        });
        let mut count = 0;
        for name in names {
            let name = name.strip_prefix("./").unwrap_or(name);
            assert!(Asset::find(name).is_some(), "{name}");
            count += 1;
        }
        assert!(2 <= count, "{count} files");
        assert!(Asset::find("app.map").is_none());
    }

    #[test]
    fn a_compressed_file_is_the_file() {
        for asset in &ASSETS {
            let mut content = Vec::new();
            flate2::read::GzDecoder::new(&asset.gzip()[..]).read_to_end(&mut content).unwrap();
            assert_eq!(content, asset.plain());
            assert!(asset.etag().starts_with('"') && asset.etag().ends_with('"'));
        }
        let [one, other] = ["", "app.js"].map(|name| Asset::find(name).unwrap().etag());
        assert_ne!(one, other);
    }
}
