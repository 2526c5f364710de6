# The image holds what `cargo build --release` builds and nothing else: no shell, no package manager, no root.
# It takes BuildKit, which Docker has since 23 (`--platform=$BUILDPLATFORM` below); before, DOCKER_BUILDKIT=1.
#   docker build -t lyceum . && docker run --rm --network host lyceum
# For both architectures, the second compiled under emulation, which takes an hour, or by a builder of its kind:
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/lyceum:0.1.0 --push .

# What browsers get is the same for all machines.
FROM --platform=$BUILDPLATFORM node:22-bookworm-slim AS page
WORKDIR /lyceum/web
COPY web/package.json web/package-lock.json ./
COPY web/packages/client/package.json packages/client/
COPY web/packages/react/package.json packages/react/
COPY web/apps/call/package.json apps/call/
COPY web/apps/admin/package.json apps/admin/
RUN npm ci
COPY web ./
RUN npm run build

FROM rust:1.95-slim-bookworm AS server
WORKDIR /lyceum
# The dependencies first, under empty crates, so that a change of ours does not compile them again.
COPY Cargo.toml Cargo.lock ./
COPY sfu/Cargo.toml sfu/
COPY signaling/Cargo.toml signaling/
COPY turn/Cargo.toml turn/
COPY bench/Cargo.toml bench/
RUN for crate in . sfu signaling turn bench; do \
      mkdir -p "$crate/src" && touch "$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs" || exit 1; \
    done \
    && cargo build --release --locked --bin lyceum \
    && rm -r src sfu/src signaling/src turn/src bench/src
COPY turn turn
COPY sfu sfu
COPY signaling signaling
COPY bench bench
COPY migrations migrations
COPY src src
COPY --from=page /lyceum/web/dist web/dist
# Files keep the time at which they were written, which is before that of the empty crates.
RUN find src sfu signaling turn bench -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin lyceum \
    && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=server /lyceum/target/release/lyceum /usr/local/bin/lyceum
# Journal and database: mount a volume here, or what people were promised is lost with the container.
COPY --from=server --chown=nonroot:nonroot /data /data
ENV LYCEUM__STORE__DIR=/data
VOLUME /data
# As a number, so that Kubernetes can see that it is not root.
USER 65532:65532
# Pages and Socket.IO; media of the first worker, the others follow; TURN, and TURN over TLS.
EXPOSE 3001/tcp 7882/udp 7882/tcp 3478/udp 3478/tcp 5349/tcp
# The binary asks itself, since the image has nothing else to ask with; it knows settings of the environment and of files.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/local/bin/lyceum", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/lyceum"]
