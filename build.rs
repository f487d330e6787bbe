//! Redirects librdkafka's timed waits to `src/monotonic_waits.rs`, which explains why.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=flash-sale=-Wl,--wrap=cnd_init,--wrap=cnd_timedwait");
}
