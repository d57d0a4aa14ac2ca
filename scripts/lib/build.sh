# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this read what it sets
# Our own programs, built on the host.

# shellcheck source=scripts/lib/tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
# cargo's profile: release from source, dist as a release has it.
PROFILE=${PROFILE:-release}
RUNNER=$TARGET/$PROFILE/bottle-runner
SIDECARS=$TARGET/$PROFILE/bottle-sidecars

# deciding_crates: the crates without I/O, whose tests need nothing of the machine.
deciding_crates() {
  local crate
  for crate in bottle-types bottle-scan bottle-policy bottle-wire bottle-plan; do
    [ ! -d "$ROOT/crates/$crate" ] || echo "$crate"
  done
}

# BINS_DIR has all programs, of scripts/release/build for one; then none is built.
if [ -n "${BINS_DIR:-}" ]; then
  RUNNER=$BINS_DIR/bottle-runner
  SIDECARS=$BINS_DIR/bottle-sidecars
fi

host_triple() { rustc -vV | sed -n 's/^host: //p'; }
link_path() { echo "${BINS_DIR:-$TARGET/$(host_triple)/$PROFILE}/bottle-link"; }

# cargo_build ARGUMENTS...: shows cargo's output only when something is built.
cargo_build() {
  (cd "$ROOT" && cargo build --profile "$PROFILE" --color "${CARGO_TERM_COLOR:-auto}" "$@" 2> >(grep --line-buffered -v '^ *Finished' >&2))
}

# cargo_xtask ARGUMENTS...: a developers' command; the release's flags are not for it.
cargo_xtask() { (cd "$ROOT" && env -u RUSTFLAGS cargo run --quiet --locked --package xtask -- "$@"); }

# ensure_sandboxes: bubblewrap, and everything that a bottle in it is made of, where the runner looks for it.
ensure_sandboxes() {
  ensure_bubblewrap
  ensure_gitleaks
  ensure_claude
  build_sidecars
  build_link
  BOTTLE_BIN_DIR=$(dirname "$(link_path)")
  export BOTTLE_BIN_DIR CLAUDE_BOTTLE_CACHE=$CACHE
}

# build_runner: the sidecars with it, because a build for each would compile what they share twice.
build_runner() {
  [ -z "${BINS_DIR:-}" ] || return 0
  ensure_toolchain
  cargo_build -p bottle-runner -p bottle-sidecars
}

# take_sidecars_of_tests: images get the sidecars that `cargo test --workspace --no-run` has built, without debug information,
# instead of a release build, which compiles every dependency once more.
take_sidecars_of_tests() {
  SIDECARS=$TARGET/debug/stripped/bottle-sidecars
  mkdir -p "$(dirname "$SIDECARS")"
  strip -g -o "$SIDECARS" "$TARGET/debug/bottle-sidecars"
}

build_sidecars() {
  [ "$SIDECARS" = "$TARGET/$PROFILE/bottle-sidecars" ] || return 0
  ensure_toolchain
  cargo_build -p bottle-runner -p bottle-sidecars
}

# The link is static, so that it runs in any image; --target keeps that flag away from build scripts and from the other
# programs' cache.
build_link() {
  [ -z "${BINS_DIR:-}" ] || return 0
  ensure_toolchain
  RUSTFLAGS='-C target-feature=+crt-static' cargo_build --target "$(host_triple)" -p bottle-link
  # Beside the runner, where it looks.
  mkdir -p "$TARGET/$PROFILE"
  ln -f "$(link_path)" "$TARGET/$PROFILE/bottle-link"
}

# build_hotpaths: sets HOTPATHS, the program whose instructions are counted. It is built for musl, as a release is: then its libc is the toolchain's, and
# no count depends on the machine's. Its package must have no opt-level of its own: the link optimises all crates by that of the last one, and by "s" it
# makes no loop of vectors, which the sidecars' has. Sets TARGET_TRIPLE for what says so.
build_hotpaths() {
  ensure_toolchain
  TARGET_TRIPLE=$(uname -m)-unknown-linux-musl
  [ -d "$(rustc --print sysroot)/lib/rustlib/$TARGET_TRIPLE/lib" ] ||
    die "this Rust toolchain has no standard library for $TARGET_TRIPLE" "rustup target add $TARGET_TRIPLE"
  (unset RUSTFLAGS && cargo_build --locked --target "$TARGET_TRIPLE" -p bottle-wire --example hotpaths)
  HOTPATHS=$TARGET/$TARGET_TRIPLE/$PROFILE/examples/hotpaths
  export TARGET_TRIPLE PROFILE
}
