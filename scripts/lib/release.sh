# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this read what it sets
# What a release is: its version, its time, and the names of its files. Everything comes from the tree, so that the same commit
# gives the same bytes.

# shellcheck source=scripts/lib/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

# Another compiler gives other bytes. The workflows name the same in RUSTUP_TOOLCHAIN.
RELEASE_RUST=1.95.0
RELEASE_PROGRAMS=(bottle-runner bottle-link bottle-sidecars)
# The sums of the release that this tree is, by which the action knows its downloads.
RELEASE_SUMS=${RELEASE_SUMS:-$ROOT/scripts/action/SHA256SUMS}

release_version() { sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml"; }

# release_notes VERSION: the section of the changelog, without its heading.
release_notes() {
  awk -v heading="## [$1]" '
    index($0, "## [") == 1 || index($0, "[Unreleased]:") == 1 { inside = index($0, heading) == 1; next }
    inside && (seen || NF) { seen = 1; print }' "$ROOT/CHANGELOG.md"
}

# release_day: the day in the changelog's heading; before that is written, the day of the last commit.
release_day() {
  local day
  day=$(sed -n "s/^## \[$(release_version)\] - \([0-9]\{4\}-[0-9]\{2\}-[0-9]\{2\}\)\$/\1/p" "$ROOT/CHANGELOG.md")
  [ -n "$day" ] || day=$(TZ=UTC git -C "$ROOT" log -1 --format=%cd --date=format-local:%Y-%m-%d)
  echo "$day"
}

# set_epoch: SOURCE_DATE_EPOCH for everything that would write the time.
set_epoch() {
  export TZ=UTC LC_ALL=C
  SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$(release_day)" +%s)}
  export SOURCE_DATE_EPOCH
  umask 022
}

# The name of the archive for a machine, and of the directory in it.
release_name() { echo "claude-bottle-v$(release_version)-$1"; }

# The machine of a target: x86_64 or aarch64.
arch_of() {
  case $1 in
    x86_64-*) echo x86_64 ;;
    aarch64-*) echo aarch64 ;;
    *) die "no release is made for $1" "the machines are x86_64 and aarch64" ;;
  esac
}

# Debian's name of a machine.
debian_arch() {
  case $1 in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
  esac
}

# start_mirror DIR: serves DIR/mirror over https, until SERVER is killed. Sets SERVER and MIRROR, the release's address there. DIR/trusted.pem has
# its authority besides this machine's own.
start_mirror() {
  local dir=$1 wait
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=mirror' -addext 'subjectAltName=IP:127.0.0.1' \
    -keyout "$dir/key.pem" -out "$dir/ca.pem" 2>/dev/null
  cat "$dir/ca.pem" "$(ca_bundle)" >"$dir/trusted.pem"
  "$BOTTLE_TEST_PYTHON" "$ROOT/tests/fixtures/release/server.py" "$dir/mirror" "$dir/ca.pem" "$dir/key.pem" "$dir/asked" >"$dir/port" &
  SERVER=$!
  for wait in $(seq 100); do
    [ ! -s "$dir/port" ] || break
    [ "$wait" -lt 100 ] || die "the mirror did not start"
    sleep 0.05
  done
  MIRROR=https://127.0.0.1:$(cat "$dir/port")/release
}

# action_get DIR TOOLS [VARIABLE=VALUE]...: the action's first step from the mirror, as its composite step runs it: in DIR/home, with the step's
# scripts in DIR/action, where no checkout of this project is. TOOLS is the runner's tool cache; DIR/outputs gets what the step says.
action_get() {
  local dir=$1 tools=$2
  shift 2
  (
    cd "$dir/home" || exit
    env -i PATH="$PATH" HOME="$dir/home" RUNNER_TEMP="$dir/temp" RUNNER_TOOL_CACHE="$tools" GITHUB_OUTPUT="$dir/outputs" \
      CURL_CA_BUNDLE="$dir/trusted.pem" INPUT_RUNNER_BINARY='' INPUT_VERSION="v$(release_version)" INPUT_SHA256='' INPUT_BACKEND=bubblewrap \
      INPUT_DOWNLOAD_URL="$MIRROR" INPUT_IMAGES='' "$@" bash "$dir/action/scripts/action/get"
  )
}
