# A static binary in an image that contains nothing else.
#
#   docker build -t campanile .
#   docker run -p 8080:8080 -v "$PWD/config.toml:/config.toml:ro" campanile
#   docker run -p 8080:8080 -e REVERB_APP_ID=1 -e REVERB_APP_KEY=key \
#     -e CAMPANILE_APPS__0__SECRET_FILE=/run/secrets/app -v "$PWD/secret:/run/secrets/app:ro" campanile
#
# Without an app, the development app is served on loopback, which is inside the container: the log says so.
FROM rust:1.95-alpine AS build
# Alpine keeps the newest version of a package only, so none can be named.
# hadolint ignore=DL3018
RUN apk add --no-cache musl-dev
WORKDIR /campanile
# The dependencies have a layer of their own, which changes of the source do not rebuild. The packages of the tests and
# the targets of the tests are left out.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^members = /d; /^default-members = /d; /^\[\[test\]\]/,$d' Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --bin campanile \
    && rm -r src target/release/.fingerprint/campanile-*
COPY src src
# The page of the console.
COPY console/dist console/dist
# `campanile init` writes files of these.
COPY deploy/systemd deploy/systemd
COPY deploy/compose deploy/compose
RUN cargo build --release --bin campanile

FROM scratch
LABEL org.opencontainers.image.title="Campanile" \
      org.opencontainers.image.description="A broadcast server that speaks the Pusher Channels protocol" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /campanile/target/release/campanile /campanile
# The certificate authorities for webhooks and for Redis over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# The server writes no file, and its ports are above 1024.
USER 65534:65534
# 8080: clients and the HTTP API. 9601: metrics, if CAMPANILE_METRICS__LISTEN is 0.0.0.0:9601.
EXPOSE 8080 9601
STOPSIGNAL SIGTERM
# Reads the same configuration as the server, and so knows its port, its path and its certificate.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/campanile", "health"]
ENTRYPOINT ["/campanile"]
CMD ["start"]
