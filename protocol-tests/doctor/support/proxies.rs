//! Real proxies as child processes, in the foreground, on free ports, each with a directory of its own. The system's services
//! are not touched.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kit::{DEADLINE, Directory, free_port};

use super::certificates::{Issued, path_text};

/// A running proxy, ended by its process id when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The port without TLS.
    pub(crate) port: u16,
    /// The port with TLS, if the proxy has a certificate.
    pub(crate) tls_port: u16,
    child: Child,
    directory: Directory,
}

/// The ports of a proxy.
#[derive(Debug)]
struct Place {
    port: u16,
    tls_port: u16,
}

/// The block of `docs/proxies.md` in a language that begins with this comment.
pub(crate) fn documented(language: &str, title: &str) -> String {
    let page = include_str!("../../../docs/proxies.md");
    let start = format!("```{language}\n# {title}\n");
    let (_, rest) =
        page.split_once(&start).unwrap_or_else(|| panic!("docs/proxies.md has no {start}"));
    rest.split("```").next().expect("there is a first part").to_owned()
}

/// As [`documented`], with texts replaced, each of which must be there.
pub(crate) fn documented_file(language: &str, title: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(documented(language, title), |text, (from, to)| {
        assert!(text.contains(from), "docs/proxies.md has lost {from:?} in {text}");
        text.replace(from, to)
    })
}

const MODULES: &str = "/usr/lib/apache2/modules";

impl Proxy {
    /// nginx with a `server` of these directives, and others at the level of `http`. With a certificate it speaks TLS
    /// as well.
    pub(crate) fn nginx(http: &str, server: &str, certificate: Option<&Issued>) -> Self {
        Self::start("nginx", "nginx.conf", |place, directory| {
            let tls = certificate.map_or_else(String::new, |issued| {
                format!(
                    "listen 127.0.0.1:{} ssl; ssl_certificate {}; ssl_certificate_key {};",
                    place.tls_port,
                    path_text(&issued.chain),
                    path_text(&issued.key)
                )
            });
            let text = format!(
                "daemon off;\npid nginx.pid;\nworker_processes 1;\nerror_log stderr info;\n\
                 events {{ worker_connections 256; }}\nhttp {{\n  access_log off;\n  \
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n  \
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{http}\n  server {{\n    \
                 listen 127.0.0.1:{};\n    {tls}\n{server}\n  }}\n}}\n",
                place.port
            );
            let folder = path_text(directory);
            (text, ["-p", &folder, "-c", "nginx.conf", "-e", "stderr"].map(str::to_owned).to_vec())
        })
    }

    /// Apache with a virtual host of these directives.
    pub(crate) fn apache(site: &str, certificate: Option<&Issued>) -> Self {
        Self::start("apache2", "apache2.conf", |place, directory| {
            let folder = path_text(directory);
            let modules = [
                "mpm_event",
                "authz_core",
                "reqtimeout",
                "setenvif",
                "socache_shmcb",
                "proxy",
                "headers",
                "proxy_http",
                "proxy_wstunnel",
                "ssl",
                "rewrite",
                "alias",
            ];
            let modules = modules
                .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
                .concat();
            let tls = certificate.map_or_else(String::new, |issued| {
                format!(
                    "Listen 127.0.0.1:{0}\n<VirtualHost *:{0}>\nSSLEngine on\nSSLCertificateFile {1}\n\
                     SSLCertificateKeyFile {2}\n{site}\n</VirtualHost>\n",
                    place.tls_port,
                    path_text(&issued.chain),
                    path_text(&issued.key)
                )
            });
            let text = format!(
                "ServerRoot {folder}\nServerName localhost\nDefaultRuntimeDir {folder}\nPidFile apache.pid\n\
                 User www-data\nGroup www-data\nErrorLog error.log\nTimeout 300\n{modules}\
                 Listen 127.0.0.1:{0}\n<VirtualHost *:{0}>\n{site}\n</VirtualHost>\n{tls}",
                place.port
            );
            (
                text,
                ["-d", &folder, "-f", "apache2.conf", "-D", "FOREGROUND"]
                    .map(str::to_owned)
                    .to_vec(),
            )
        })
    }

    /// `haproxy` with these directives of its backend.
    pub(crate) fn haproxy(backend: &str, certificate: Option<&Issued>) -> Self {
        Self::haproxy_with(backend, certificate, "")
    }

    /// As [`haproxy`](Self::haproxy), with options of its port with TLS.
    pub(crate) fn haproxy_tls(backend: &str, certificate: &Issued, options: &str) -> Self {
        Self::haproxy_with(backend, Some(certificate), options)
    }

    fn haproxy_with(backend: &str, certificate: Option<&Issued>, options: &str) -> Self {
        Self::start("haproxy", "haproxy.cfg", |place, _| {
            let tls = certificate.map_or_else(String::new, |issued| {
                format!(
                    "  bind 127.0.0.1:{} ssl crt {} {options}\n",
                    place.tls_port,
                    path_text(&issued.both)
                )
            });
            let text = format!(
                "global\n  log stderr format short local0 notice\ndefaults\n  mode http\n  timeout connect 5s\n  \
                 timeout client 60s\n  timeout server 60s\n  timeout tunnel 90s\nfrontend web\n  \
                 bind 127.0.0.1:{}\n{tls}  default_backend campanile\nbackend campanile\n{backend}\n",
                place.port
            );
            (text, ["-db", "-f", "haproxy.cfg"].map(str::to_owned).to_vec())
        })
    }

    /// Caddy with these directives of its site.
    pub(crate) fn caddy(site: &str, certificate: Option<&Issued>) -> Self {
        Self::start("caddy", "Caddyfile", |place, _| {
            let tls = certificate.map_or_else(String::new, |issued| {
                format!(
                    "https://localhost:{} {{\n  tls {} {}\n{site}\n}}\n",
                    place.tls_port,
                    path_text(&issued.chain),
                    path_text(&issued.key)
                )
            });
            let text = format!(
                "{{\n  admin off\n  auto_https disable_redirects\n  default_bind 127.0.0.1\n}}\nhttp://:{} {{\n{site}\n}}\n{tls}",
                place.port
            );
            (text, ["run", "--config", "Caddyfile"].map(str::to_owned).to_vec())
        })
    }

    fn start(
        program: &str,
        file: &str,
        configure: impl Fn(&Place, &Path) -> (String, Vec<String>),
    ) -> Self {
        let mut last = String::new();
        // Another process may take a port before the proxy does.
        for _ in 0..3 {
            let directory = Directory::new();
            let place = Place { port: free_port(), tls_port: free_port() };
            let (text, arguments) = configure(&place, directory.path());
            directory.write(file, &text);
            let log = std::fs::File::create(directory.path().join("output"))
                .expect("a folder of our own");
            let child = Command::new(program)
                .args(arguments)
                .current_dir(directory.path())
                .env("HOME", directory.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("there are file descriptors"))
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
            let mut proxy = Self { port: place.port, tls_port: place.tls_port, child, directory };
            if proxy.comes_up() {
                return proxy;
            }
            last = proxy.log();
        }
        panic!("{program} does not start: {last}");
    }

    /// Waits until the port is bound; false if the program ended.
    fn comes_up(&mut self) -> bool {
        let start = Instant::now();
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        loop {
            if self.child.try_wait().expect("the child is ours").is_some() {
                return false;
            }
            if TcpStream::connect(address).is_ok() {
                return true;
            }
            assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for a proxy");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// What the proxy has said.
    pub(crate) fn log(&self) -> String {
        ["output", "error.log"]
            .map(|name| {
                std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
            })
            .concat()
    }

    /// The address without TLS.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address with TLS.
    pub(crate) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.tls_port)
    }
}

impl Drop for Proxy {
    #[expect(
        clippy::print_stderr,
        reason = "the proxy's log belongs into the report of a failed test"
    )]
    fn drop(&mut self) {
        // Workers end with the first process, which must not be killed for that.
        let end = format!("kill -TERM {}", self.child.id());
        let _sent = Command::new("sh").args(["-c", &end]).status();
        let start = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if DEADLINE / 2 < start.elapsed() {
                let _already_gone = self.child.kill();
                let _reaped = self.child.wait();
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if std::thread::panicking() {
            eprintln!("--- output of the proxy\n{}\n---", self.log());
        }
    }
}
