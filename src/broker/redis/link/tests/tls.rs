use super::{
    endpoint_of,
    fake::{Fake, slots},
};
use crate::{config::RedisConfig, tls::testing::Localhost};
use std::{fs, path::PathBuf};

/// A server with its own certificate for `localhost`, and the file of that certificate.
struct Secure {
    fake: Fake,
    file: PathBuf,
}

impl Secure {
    async fn start() -> Self {
        let Localhost { pem, server, .. } = Localhost::new();
        let fake = Fake::start_tls(server).await;
        let name = format!("campanile-link-{}-{}.pem", std::process::id(), fake.port);
        let file = std::env::temp_dir().join(name);
        fs::write(&file, pem).unwrap();
        Self { fake, file }
    }

    fn config(&self, scheme: &str, host: &str) -> RedisConfig {
        let url = format!("{scheme}://{host}:{}", self.fake.port).parse().unwrap();
        let ca = self.file.to_str().unwrap().to_owned();
        RedisConfig { url, ca, ..RedisConfig::default() }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        fs::remove_file(&self.file).unwrap();
    }
}

#[tokio::test]
async fn a_server_is_verified_by_its_authority_and_its_name() {
    let (server, other) = (Secure::start().await, Secure::start().await);
    let map = slots(&[(0, 16_383, server.fake.port)]);
    server.fake.reply(move |line| (line == "CLUSTER SLOTS").then(|| map.clone()));
    for scheme in ["rediss", "rediss+cluster"] {
        let (connection, _pushes) =
            endpoint_of(&server.config(scheme, "localhost")).connect().await.unwrap();
        assert_eq!(connection.load(&["a"]).await.unwrap(), ["SCRIPT LOAD a"]);
        for config in [
            server.config(scheme, "127.0.0.1"),
            RedisConfig { ca: other.config(scheme, "x").ca, ..server.config(scheme, "localhost") },
        ] {
            let error = endpoint_of(&config).connect().await.unwrap_err();
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    }
}
