# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this read what it sets
# Words on the screen, where things are kept, and running commands. Sourced first by every script.

# How this script was called, so that it can start itself again.
ENTRY=("$(realpath "$0")" "$@")
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${CLAUDE_BOTTLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/claude-bottle}
LOGS=$CACHE/logs
mkdir -p "$CACHE/bin" "$LOGS"
export PATH="$CACHE/bin:$PATH"

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' PLAIN=''
fi

# What people read goes to stderr, so that a script's stdout stays clean for its results.
step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
say() { printf '    %s\n' "$*" >&2; }
warn() { printf '%swarning:%s %s\n' "$RED" "$PLAIN" "$*" >&2; }

# die MESSAGE [HELP]: what failed, and what to try.
die() {
  printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
  [ $# -lt 2 ] || printf 'help: %s\n' "$2" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    die "'$1' needs root, and there is no sudo" "run this script as root"
  fi
}

# logged WHAT COMMAND...: says WHAT, runs the command with its output in a log file, and says how long it took;
# a failure shows the log's end.
logged() {
  local what=$1 log start rc=0
  shift
  log=$(mktemp "$LOGS/$(date +%H%M%S)-XXXXXX.log")
  start=$SECONDS
  say "$what"
  "$@" >"$log" 2>&1 </dev/null || rc=$?
  if [ "$rc" != 0 ]; then
    tail -n 25 "$log" | sed 's/^/    | /' >&2
    printf '%serror:%s failed (%s): %s\n' "$RED" "$PLAIN" "$rc" "$what" >&2
    say "the whole log: $log"
    return "$rc"
  fi
  rm -f "$log"
  say "${DIM}done in $((SECONDS - start)) s${PLAIN}"
}

# scratch: prints a new directory in the cache, which goes away with the script.
scratch() {
  mkdir -p "$CACHE/scratch.$$"
  mktemp -d "$CACHE/scratch.$$/XXXXXX"
}
trap 'rm -rf "$CACHE/scratch.$$"' EXIT

# The host's bundle of trusted CAs; it may hold a company proxy's own.
ca_bundle() {
  local file
  for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
    if [ -n "$file" ] && [ -s "$file" ]; then
      echo "$file"
      return
    fi
  done
  die "no bundle of CA certificates found" "install the package ca-certificates"
}
