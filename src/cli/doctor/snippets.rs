//! Lines for the configuration of proxies. They are those of `docs/proxies.md`; a test compares the two.

use super::{finding::Snippet, probe::AnsweredBy};

/// The snippets about one thing that a proxy must do.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyLines {
    nginx: &'static str,
    apache: &'static str,
    caddy: &'static str,
    haproxy: &'static str,
    traefik: &'static str,
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
    traefik: "# without middlewares that set Connection or Upgrade
rule: Host(`ws.example.com`)
service: campanile",
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
    traefik: "rule: Host(`app.example.com`) && (PathPrefix(`/app/`) || PathPrefix(`/apps/`))
service: campanile",
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
    traefik: "- url: http://127.0.0.1:8080",
};

/// Keeps idle connections.
pub(super) const IDLE: ProxyLines = ProxyLines {
    nginx: "proxy_read_timeout 90s;",
    apache: UPGRADE.apache,
    caddy: "# in reverse_proxy; without it, Caddy cuts no connection
stream_timeout 0",
    haproxy: "timeout tunnel 90s",
    traefik: "# in the static configuration
respondingTimeouts: { readTimeout: 0s, idleTimeout: 180s }",
};

/// Accepts bodies that the server accepts.
pub(super) const BODIES: ProxyLines = ProxyLines {
    nginx: "client_max_body_size 2m;",
    apache: "LimitRequestBody 2097152",
    caddy: "request_body {
    max_size 2MB
}",
    haproxy: "# HAProxy has no limit by itself: raise that of a rule such as this one
http-request deny deny_status 413 if { req.body_size gt 2097152 }",
    traefik: "buffering: { maxRequestBodyBytes: 2097152 }",
};

/// Says that the client uses TLS.
pub(super) const FORWARDED: ProxyLines = ProxyLines {
    nginx: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;",
    apache: "RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}",
    caddy: "# in reverse_proxy, where something else sets them
header_up X-Forwarded-Proto {scheme}",
    haproxy: "    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http unless { ssl_fc }",
    traefik: "# Traefik sets X-Forwarded-For and X-Forwarded-Proto. If another proxy is before it:
forwardedHeaders: { trustedIPs: [127.0.0.1/32] }",
};

/// Leaves what was signed as it is.
pub(super) const UNCHANGED: ProxyLines = ProxyLines {
    nginx: "proxy_pass http://campanile;",
    apache: UPGRADE.apache,
    caddy: "reverse_proxy 127.0.0.1:8080 {",
    haproxy: "# without set-path, replace-path and set-query
server one 127.0.0.1:8080",
    traefik: "# without middlewares that change the path or the query
rule: Host(`ws.example.com`)
service: campanile",
};

/// The certificate with its chain.
pub(super) const CHAIN: ProxyLines = ProxyLines {
    nginx: "ssl_certificate /etc/ssl/example.com/fullchain.pem;",
    apache: "SSLCertificateFile /etc/ssl/example.com/fullchain.pem",
    caddy: "tls /etc/ssl/example.com/fullchain.pem /etc/ssl/example.com/privkey.pem",
    haproxy: "bind :443 ssl crt /etc/haproxy/certs/ws.example.com.pem",
    traefik: "- { certFile: /etc/ssl/example.com/fullchain.pem, keyFile: /etc/ssl/example.com/privkey.pem }",
};

impl ProxyLines {
    /// The lines for a proxy, with the address of the server, if there are any for it.
    pub(super) fn of(&self, front: &AnsweredBy, upstream: Option<&str>) -> Option<Snippet> {
        let (of, text) = match front {
            AnsweredBy::Nginx => ("nginx", self.nginx),
            AnsweredBy::Apache => ("Apache", self.apache),
            AnsweredBy::Caddy => ("Caddy", self.caddy),
            AnsweredBy::HaProxy => ("HAProxy", self.haproxy),
            AnsweredBy::Traefik => ("Traefik", self.traefik),
            AnsweredBy::Campanile
            | AnsweredBy::Laravel
            | AnsweredBy::Php
            | AnsweredBy::Vite
            | AnsweredBy::Reverb
            | AnsweredBy::Cloudflare
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
            ("yaml", AnsweredBy::Traefik),
        ] {
            let documented = documented(language);
            for snippet in all.iter().filter_map(|lines| lines.of(&front, None)) {
                let lines = snippet.text.lines();
                for line in lines.filter(|line| !line.trim().starts_with('#')) {
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
        let all = [UPGRADE, ROUTES, UPSTREAMS, IDLE, BODIES, FORWARDED, UNCHANGED, CHAIN];
        for front in [
            AnsweredBy::Nginx,
            AnsweredBy::Apache,
            AnsweredBy::Caddy,
            AnsweredBy::HaProxy,
            AnsweredBy::Traefik,
        ] {
            assert!(all.iter().all(|lines| lines.of(&front, None).is_some()), "{front}");
        }
    }
}
