//! Writes the corpora to where cargo-fuzz looks for them: `cargo run --bin seeds` in `fuzz/`.

#[path = "../../protocol-tests/fuzz/corpus.rs"]
mod corpus;
#[path = "../../protocol-tests/fuzz/drive/mod.rs"]
mod drive;

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    for (name, _) in drive::DRIVES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in corpus::seeds(name).into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
