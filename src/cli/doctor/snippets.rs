//! Lines for the configuration of proxies. They are those of `docs/proxies.md`, which are tested with
//! real proxies; a test compares the two.

use super::{finding::Snippet, probe::AnsweredBy};

/// The snippets about one thing that a proxy must do.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyLines {
    nginx: &'static str,
    apache: &'static str,
    caddy: &'static str,
    haproxy: &'static str,
}

/// The address of the server in the snippets, which the real one replaces.
const UPSTREAM: &str = "127.0.0.1:8080";

/// Passes the upgrade to WebSocket on.
pub(super) const UPGRADE: ProxyLines = ProxyLines {
    nginx: "# before the server block
map $http_upgrade $connection_upgrade {
    default upgrade;
    ''      '';
}
# in the location
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;",
    apache: r#"ProxyPass "/" "http://127.0.0.1:8080/" nocanon upgrade=websocket timeout=90 ttl=60"#,
    caddy: "reverse_proxy 127.0.0.1:8080 {",
    haproxy: "    timeout tunnel 90s
    server one 127.0.0.1:8080",
};

/// Passes `/app/` and `/apps/` of the application's host on.
pub(super) const ROUTES: ProxyLines = ProxyLines {
    nginx: "location ~ ^/apps?/ {
    include snippets/campanile.conf;
}",
    apache: r#"AllowEncodedSlashes NoDecode
ProxyPass "/app/" "http://127.0.0.1:8080/app/" nocanon upgrade=websocket timeout=90 ttl=60
ProxyPass "/apps/" "http://127.0.0.1:8080/apps/" nocanon upgrade=websocket timeout=90 ttl=60"#,
    caddy: "@campanile path /app/* /apps/*
handle @campanile {
    import campanile
}",
    haproxy: "use_backend campanile if { path_beg /app/ /apps/ }",
};

/// The address of the server.
pub(super) const UPSTREAMS: ProxyLines = ProxyLines {
    nginx: "# before the server block; the location has proxy_pass http://campanile;
upstream campanile {
    server 127.0.0.1:8080;
}",
    apache: UPGRADE.apache,
    caddy: "reverse_proxy 127.0.0.1:8080 {",
    haproxy: "server one 127.0.0.1:8080",
};

/// Keeps idle connections.
pub(super) const IDLE: ProxyLines = ProxyLines {
    nginx: "proxy_read_timeout 90s;",
    apache: UPGRADE.apache,
    caddy: "",
    haproxy: "timeout tunnel 90s",
};

/// Accepts bodies that the server accepts.
pub(super) const BODIES: ProxyLines =
    ProxyLines { nginx: "client_max_body_size 2m;", apache: "", caddy: "", haproxy: "" };

/// Says that the client uses TLS.
pub(super) const FORWARDED: ProxyLines = ProxyLines {
    nginx: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;",
    apache: "RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}",
    caddy: "",
    haproxy: "    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http unless { ssl_fc }",
};

/// Leaves what was signed as it is.
pub(super) const UNCHANGED: ProxyLines = ProxyLines {
    nginx: "proxy_pass http://campanile;",
    apache: UPGRADE.apache,
    caddy: "reverse_proxy 127.0.0.1:8080 {",
    haproxy: "",
};

/// The certificate with its chain.
pub(super) const CHAIN: ProxyLines = ProxyLines {
    nginx: "ssl_certificate /etc/ssl/example.com/fullchain.pem;",
    apache: "SSLCertificateFile /etc/ssl/example.com/fullchain.pem",
    caddy: "",
    haproxy: "bind :443 ssl crt /etc/haproxy/certs/ws.example.com.pem",
};

impl ProxyLines {
    /// The lines for a proxy, with the address of the server, if there are any for it.
    pub(super) fn of(&self, front: &AnsweredBy, upstream: Option<&str>) -> Option<Snippet> {
        let (of, text) = match front {
            AnsweredBy::Nginx => ("nginx", self.nginx),
            AnsweredBy::Apache => ("Apache", self.apache),
            AnsweredBy::Caddy => ("Caddy", self.caddy),
            AnsweredBy::HaProxy => ("HAProxy", self.haproxy),
            AnsweredBy::Campanile
            | AnsweredBy::Laravel
            | AnsweredBy::Php
            | AnsweredBy::Vite
            | AnsweredBy::Reverb
            | AnsweredBy::Cloudflare
            | AnsweredBy::Traefik
            | AnsweredBy::Envoy
            | AnsweredBy::Other(_)
            | AnsweredBy::Unknown => return None,
        };
        let text = text.replace(UPSTREAM, upstream.unwrap_or(UPSTREAM));
        (!text.is_empty()).then_some(Snippet { of, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The lines of the page's blocks in a language.
    fn documented(language: &str) -> BTreeSet<String> {
        let page = include_str!("../../../docs/proxies.md");
        let mut lines = BTreeSet::new();
        let mut block = None;
        for line in page.lines() {
            match (block, line.strip_prefix("```")) {
                (None, Some(name)) => block = Some(name),
                (Some(_), Some(_)) => block = None,
                (Some(name), None) if name == language => {
                    lines.insert(line.trim().to_owned());
                }
                (Some(_) | None, None) => {}
            }
        }
        lines
    }

    #[test]
    fn each_line_is_one_of_the_page_on_proxies() {
        let all = [UPGRADE, ROUTES, UPSTREAMS, IDLE, BODIES, FORWARDED, UNCHANGED, CHAIN];
        for (language, front) in [
            ("nginx", AnsweredBy::Nginx),
            ("apache", AnsweredBy::Apache),
            ("caddy", AnsweredBy::Caddy),
            ("haproxy", AnsweredBy::HaProxy),
        ] {
            let documented = documented(language);
            for snippet in all.iter().filter_map(|lines| lines.of(&front, None)) {
                let lines = snippet.text.lines();
                for line in lines.filter(|line| !line.starts_with('#')) {
                    assert!(documented.contains(line.trim()), "docs/proxies.md has no {line:?}");
                }
            }
        }
    }

    #[test]
    fn a_snippet_has_the_address_of_the_server() {
        let snippet = UPSTREAMS.of(&AnsweredBy::Nginx, Some("127.0.0.1:6001")).unwrap();
        assert!(snippet.text.contains("server 127.0.0.1:6001;"), "{}", snippet.text);
        assert_eq!(UPSTREAMS.of(&AnsweredBy::Unknown, None), None);
        assert_eq!(IDLE.of(&AnsweredBy::Caddy, None), None);
    }
}
