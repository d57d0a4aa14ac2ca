# shellcheck shell=bash
# The demo itself: the main job on the shipped sample. scripts/demo has made everything that it needs.

run_demo() {
  die "the demo's sample is not there yet"
}
