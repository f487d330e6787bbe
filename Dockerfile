# syntax=docker/dockerfile:1
# flash-sale in a small image without a shell, as a user without rights.
#   docker build -t flash-sale-engine:0.1.0 .
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build
# rust-toolchain.toml would fetch the components that only a developer needs.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
COPY . .
# What cargo has fetched and built stays between builds; the binary must leave the cache to be in the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/local/cargo/git \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --package flash-sale \
    && strip -o /flash-sale target/release/flash-sale
# What the image below does not have: a library, and the program that the runbook asks for a container's variables.
RUN mkdir -p /more/lib /more/bin \
    && cp --dereference "$(ldconfig -p | awk '/libz\.so\.1 /{print $NF; exit}')" /more/lib/libz.so.1 \
    && cp /usr/bin/env /more/bin/env

# It has no versions: it is Debian 12 with today's fixes.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Flash Sale Engine" \
      org.opencontainers.image.description="Order intake that survives the first second of a sale" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /more/ /usr/
COPY --from=build /flash-sale /usr/local/bin/flash-sale
# As in the tree: the scenarios name the alerts.
COPY perf/scenarios /usr/share/flash-sale/perf/scenarios
COPY deploy/alerts.yml /usr/share/flash-sale/deploy/alerts.yml
USER nonroot
# The gateway's port, and the processor's metrics.
EXPOSE 8080 9090
# Of a gateway; docker-compose.yml and the pods name the processor's.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/flash-sale", "health"]
ENTRYPOINT ["/usr/local/bin/flash-sale"]
CMD ["--help"]
