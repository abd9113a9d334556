# A static binary in an image that holds nothing else.
#
#   docker build -t campanile .
#   docker run -p 8080:8080 -e REVERB_APP_ID=1 -e REVERB_APP_KEY=key -e REVERB_APP_SECRET=secret campanile
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /campanile
COPY . .
RUN cargo build --release --locked --bin campanile

FROM scratch
COPY --from=build /campanile/target/release/campanile /campanile
# The authorities that vouch for the endpoints of webhooks.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Nobody's rights are enough: the server writes no file and its port is above 1024.
USER 65534:65534
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["/campanile", "health"]
ENTRYPOINT ["/campanile"]
CMD ["start"]
