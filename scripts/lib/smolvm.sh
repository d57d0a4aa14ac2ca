# shellcheck shell=bash
# smolvm, fetched and laid out as it wants it: the wheel has its program under another name, and packed what it unpacks at its
# first start, which under emulation takes minutes.

SMOLVM_VERSION=1.32.2
SMOLVM_HASH=sha256:81b104e2622aa0b187b6b7054397c391151b83db2638a16d0e54c517684f0dc2
SMOLVM_DIR=$CACHE/smolvm/$SMOLVM_VERSION

ensure_smolvm() {
  local dir name
  [ ! -x "$SMOLVM_DIR/smolvm" ] || return 0
  step "smolvm $SMOLVM_VERSION"
  [ "$(uname -m)" = x86_64 ] || die "the pinned smolvm is for x86_64" "install smolvm for this machine, and put it on the PATH"
  ensure_python
  need_command zstd zstd
  dir=$(scratch)
  echo "smolmachines==$SMOLVM_VERSION --hash=$SMOLVM_HASH" >"$dir/requirements.txt"
  logged "fetching PyPI's smolmachines $SMOLVM_VERSION (44 MB, pinned by hash)" \
    "$VENV/bin/pip" download -q --no-deps --only-binary :all: --require-hashes -r "$dir/requirements.txt" -d "$dir"
  python3 -m zipfile -e "$dir"/smolmachines-*.whl "$dir/wheel"
  mkdir -p "$dir/smolvm/agent-rootfs"
  mv "$dir/wheel/smol/smol-vmm" "$dir/smolvm/smolvm"
  mv "$dir"/wheel/smol/lib*.so* "$dir/smolvm/"
  chmod 0755 "$dir/smolvm/smolvm"
  tar --zstd -x -C "$dir/smolvm/agent-rootfs" -f "$dir/wheel/smol/agent-rootfs.tar.zst"
  for name in overlay storage; do
    mv "$dir/wheel/smol/$name-template.ext4.zst" "$dir/smolvm/"
    zstd -q -d --sparse "$dir/smolvm/$name-template.ext4.zst" -o "$dir/smolvm/$name-template.ext4"
  done
  mkdir -p "$(dirname "$SMOLVM_DIR")"
  rm -rf "$SMOLVM_DIR"
  mv "$dir/smolvm" "$SMOLVM_DIR"
  rm -rf "$dir"
}
