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
# The one library that the image below does not have.
RUN mkdir /libraries && cp --dereference "$(ldconfig -p | awk '/libz\.so\.1 /{print $NF; exit}')" /libraries/libz.so.1

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Flash Sale Engine" \
      org.opencontainers.image.description="Order intake that survives the first second of a sale" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /libraries/ /usr/lib/
COPY --from=build /flash-sale /usr/local/bin/flash-sale
COPY perf/scenarios /usr/share/flash-sale/scenarios
COPY deploy/alerts.yml /usr/share/flash-sale/alerts.yml
USER nonroot
# The gateway's port, and the processor's metrics.
EXPOSE 8080 9090
# Of a gateway; docker-compose.yml and the pods name the processor's.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/flash-sale", "health"]
ENTRYPOINT ["/usr/local/bin/flash-sale"]
CMD ["--help"]
