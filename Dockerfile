# The agent's image: the program, both variants of iptables, and nft. The program is built outside, by one of
#   cargo build --release --locked
#   cargo build --release --locked --target aarch64-unknown-linux-gnu      (x86_64-unknown-linux-gnu)
# on a Debian no newer than the base; then: docker build -t bridgewarden:0.1.0 .
ARG BASE=debian:bookworm-slim

FROM $BASE AS program
COPY target/ /target/
# The one that was built for this machine by name, else the one that was built without a name. It has to run on this base.
RUN set -eu; \
    built=/target/$(uname -m)-unknown-linux-gnu/release/bridgewarden; \
    [ -e "$built" ] || built=/target/release/bridgewarden; \
    install -m 755 "$built" /bridgewarden; \
    /bridgewarden --version

FROM $BASE
# What is left of /usr/share/doc are the licences of Debian's packages.
RUN set -eu; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables nftables; \
    apt-get clean; \
    find /usr/share/doc -type f ! -name copyright -delete; \
    rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
        /var/lib/apt/lists/* /var/cache/* /var/log/*
COPY LICENSE /usr/share/doc/bridgewarden/copyright
COPY --from=program /bridgewarden /usr/local/bin/bridgewarden
ENTRYPOINT ["/usr/local/bin/bridgewarden"]
CMD ["--help"]

ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Bridgewarden" \
      org.opencontainers.image.description="Enforces Kubernetes NetworkPolicies on nodes whose pods are attached to a Linux bridge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
