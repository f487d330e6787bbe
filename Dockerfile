# syntax=docker/dockerfile:1
# flash-sale in a small image without a shell, running as an unprivileged user.
#   docker build -t flash-sale-engine:0.1.0 .
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build
# Overrides rust-toolchain.toml, which would also download components that only developers need.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
COPY . .
# The cache mounts keep downloads and build results between builds; the binary is copied out of them into the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/local/cargo/git \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --package flash-sale \
    && strip -o /flash-sale target/release/flash-sale
# Missing in the image below: a library, and `env`, with which the runbook reads the variables of a container.
RUN mkdir -p /more/lib /more/bin \
    && cp --dereference "$(ldconfig -p | awk '/libz\.so\.1 /{print $NF; exit}')" /more/lib/libz.so.1 \
    && cp /usr/bin/env /more/bin/env

# This image has no version tags: it is Debian 12 with current fixes.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Flash Sale Engine" \
      org.opencontainers.image.description="Order intake that survives the first second of a sale" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /more/ /usr/
COPY --from=build /flash-sale /usr/local/bin/flash-sale
# Same layout as in the repository: the scenarios refer to the alerts by relative path.
COPY perf/scenarios /usr/share/flash-sale/perf/scenarios
COPY deploy/alerts.yml /usr/share/flash-sale/deploy/alerts.yml
USER nonroot
# The gateway's port, and the processor's metrics.
EXPOSE 8080 9090
# For a gateway; docker-compose.yml and the Kubernetes pods define their own for the processor.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/flash-sale", "health"]
ENTRYPOINT ["/usr/local/bin/flash-sale"]
CMD ["--help"]
