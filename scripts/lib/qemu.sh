# shellcheck shell=bash
# shellcheck disable=SC2034 # outer.sh reads what is set here
# QEMU, built from the source of Debian trixie's package with one line mended: without it more than half of the machines in the
# emulated machine stop (qemu/inject-once.patch says why). Only what the emulated machine needs is built.

QEMU_FILES=$ROOT/scripts/lib/qemu
QEMU_OPTIONS=(--target-list=x86_64-softmmu --without-default-features --without-default-devices --with-devices-x86_64=outer
  --enable-system --enable-tcg --enable-slirp --disable-install-blobs --disable-download --disable-debug-info)
# The one that QEMU's own release has in it, and Debian's source has not.
MESON=meson==1.5.0

# ensure_qemu [unmended]: afterwards QEMU is the program, with where its firmware is; `unmended` is the same without the patch.
ensure_qemu() {
  local mended=${1:-mended} dir
  dir=$OUTER/qemu-$({ echo "${QEMU_OPTIONS[*]} $MESON" && cat "$QEMU_FILES"/*; } | sha256sum | cut -c1-16)
  if [ ! -x "$dir/$mended" ]; then
    step "QEMU"
    need_packages gcc libc6-dev pkg-config ninja-build libglib2.0-dev zlib1g-dev libslirp-dev
    ensure_python
    rm -rf "$OUTER"/qemu-*
    make_qemu "$dir"
  fi
  # The firmware is Debian's, of whichever release: Debian has taken it out of the source.
  need_packages seabios qemu-system-data
  QEMU=("$dir/$mended" -L /usr/share/seabios -L /usr/share/qemu)
}

# make_qemu DIR: both, since what is without the patch takes one file more.
make_qemu() {
  local build source
  build=$(scratch)
  suite_source trixie qemu "$build"
  source=$(echo "$build"/qemu-*/)
  install -m 0644 -D "$QEMU_FILES/outer.mak" "$source/configs/devices/x86_64-softmmu/outer.mak"
  logged "installing PyPI's $MESON into $VENV" "$VENV/bin/pip" install -q "$MESON"
  mkdir -p "$build/b"
  (cd "$build/b" && logged "configuring it" "$source/configure" --python="$VENV/bin/python" "${QEMU_OPTIONS[@]}")
  logged "building it (four minutes with two processors)" nice ninja -C "$build/b" qemu-system-x86_64
  install -s -D "$build/b/qemu-system-x86_64" "$1.new/unmended"
  logged "mending it" patch -d "$source" -p1 -i "$QEMU_FILES/inject-once.patch"
  logged "building it again" nice ninja -C "$build/b" qemu-system-x86_64
  install -s -D "$build/b/qemu-system-x86_64" "$1.new/mended"
  mv "$1.new" "$1"
  rm -rf "$build"
}
