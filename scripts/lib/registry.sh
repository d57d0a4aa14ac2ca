# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this read what it sets
# A registry on loopback, an engine of its own that builds for it as a release's builder does, and base images of Debian's packages. For
# machines that reach no registry of images, which would have a builder's and a base image.

# shellcheck source=scripts/lib/images.sh
. "$(dirname "${BASH_SOURCE[0]}")/images.sh"

# A bridge and a network that nothing else has; the engine's own are another's.
ENGINE_BRIDGE=bottle-rehearse
ENGINE_ADDRESS=172.31.253.1

# started FILE PID COMMAND...: waits up to 30 s until COMMAND succeeds; FILE is the log of the process PID.
started() {
  local log=$1 pid=$2 _
  shift 2
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 10 "$log" | sed 's/^/    | /' >&2
  return 1
}

# start_registry DIR: Debian's docker-registry on a loopback port. Sets REGISTRY, its address, and REGISTRY_PID; its blobs are below DIR/registry.
start_registry() {
  local dir=$1 _
  need_without_service docker-registry
  for _ in $(seq 10); do
    REGISTRY=127.0.0.1:$((20000 + RANDOM % 30000))
    printf 'version: 0.1\nstorage: { filesystem: { rootdirectory: "%s" } }\nhttp: { addr: "%s" }\n' "$dir/registry" "$REGISTRY" >"$dir/registry.yml"
    docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 &
    REGISTRY_PID=$!
    disown "$REGISTRY_PID"
    if started "$dir/registry.log" "$REGISTRY_PID" curl --fail --silent --noproxy '*' "http://$REGISTRY/v2/"; then return 0; fi
  done
  die "the registry did not start"
}

# start_own_engine DIR: Debian unstable's engine, which keeps images as containerd does: it builds an index with provenance, and unpacks zstd. It
# has none of this machine's images. Sets DOCKER_HOST to it, ENGINE_DIR and ENGINE_PID. As root.
start_own_engine() {
  local dir=$1 file
  [ "$(id -u)" = 0 ] || die "an engine of its own is root's to start" "run this as root"
  need_command runc runc
  need_command ip iproute2
  mkdir -p "$dir/bin"
  for file in docker.io:usr/sbin/dockerd docker.io:usr/sbin/docker-proxy containerd:usr/bin/containerd \
    containerd:usr/bin/containerd-shim-runc-v2; do
    ln -s "$(suite_file sid "${file%%:*}" "${file#*:}")" "$dir/bin/${file##*/}"
  done
  printf '{"features": {"containerd-snapshotter": true}}\n' >"$dir/daemon.json"
  ip link show "$ENGINE_BRIDGE" >/dev/null 2>&1 || ip link add name "$ENGINE_BRIDGE" type bridge
  ip address replace "$ENGINE_ADDRESS/24" dev "$ENGINE_BRIDGE"
  ip link set "$ENGINE_BRIDGE" up
  # Its containers reach this machine and no further; what it builds has this machine's network.
  PATH=$dir/bin:$PATH dockerd --config-file "$dir/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
    --host "unix://$dir/socket" --bridge "$ENGINE_BRIDGE" --iptables=false --ip6tables=false >"$dir/log" 2>&1 &
  ENGINE_PID=$! ENGINE_DIR=$dir
  disown "$ENGINE_PID"
  export DOCKER_HOST=unix://$dir/socket
  started "$dir/log" "$ENGINE_PID" docker version || die "the engine did not start"
}

# start_builder: makes that engine's builder buildx's own. buildx lets an engine's own builder push no image by its digest; as a remote builder it
# is the same, and may.
start_builder() {
  python3 "$ROOT/scripts/lib/builder.py" "$ENGINE_DIR/socket" "$ENGINE_DIR/builder" >"$ENGINE_DIR/builder.log" 2>&1 &
  BUILDER_PID=$!
  disown "$BUILDER_PID"
  started "$ENGINE_DIR/builder.log" "$BUILDER_PID" test -S "$ENGINE_DIR/builder" || die "the engine's builder is not to be had"
  export BUILDX_CONFIG=$ENGINE_DIR/buildx
  docker buildx create --name release --driver remote --use "unix://$ENGINE_DIR/builder" >/dev/null
}

# end_process PID: ends it, and waits for its end.
end_process() {
  local _
  [ -n "$1" ] && kill "$1" 2>/dev/null || return 0
  for _ in $(seq 150); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
}

# end_own_engine: ends it and its builder, and takes its mounts and its bridge away.
end_own_engine() {
  local mount
  end_process "${BUILDER_PID:-}"
  end_process "${ENGINE_PID:-}"
  BUILDER_PID='' ENGINE_PID=''
  [ -n "${ENGINE_DIR:-}" ] || return 0
  sed -n "s|^[^ ]* \($ENGINE_DIR/[^ ]*\) .*|\1|p" /proc/mounts | sort -r | while read -r mount; do umount --lazy "$mount"; done
  ip link delete "$ENGINE_BRIDGE" 2>/dev/null || true
  ENGINE_DIR=''
  unset DOCKER_HOST BUILDX_CONFIG
}

# emulate ARCH DIR: has the kernel run another machine's programs by qemu-user, in any directory. Where it does not already, this is said to it at
# DIR, until unemulate. Sets EMULATED, the kernel's entry.
emulate() {
  local conf=/usr/lib/binfmt.d/qemu-$1.conf
  need_packages qemu-user-static arch-test
  ! arch-test "$(debian_arch "$1")" >/dev/null 2>&1 || return 0
  [ "$(id -u)" = 0 ] || die "this kernel does not run programs for $1, and only root may change that" "run this as root"
  [ -f "$conf" ] || die "qemu-user-static has no $conf" "register its programs as your system does it"
  # At a place of its own: at the usual one it would stay, and be in every container.
  mkdir -p "$2"
  mount -t binfmt_misc binfmt_misc "$2"
  EMULATED=$2/qemu-$1
  [ -e "$EMULATED" ] || cat "$conf" >"$2/register"
  arch-test "$(debian_arch "$1")" >/dev/null || die "this kernel does not run programs for $1 by qemu-user"
}

unemulate() {
  [ -n "${EMULATED:-}" ] || return 0
  # Those of other machines are not this script's.
  [ ! -e "$EMULATED" ] || echo -1 >"$EMULATED"
  umount "${EMULATED%/*}"
  EMULATED=''
}

# push_base ARCH: makes the base image of the agent and the sidecars for a machine of Debian's packages, and pushes it. Prints its name.
push_base() {
  local arch=$1 image=$REGISTRY/debian:trixie-slim-$1 kept=$CACHE/base-$1.tar
  if [ ! -f "$kept" ]; then
    need_packages mmdebstrap debian-archive-keyring
    logged "making $BASE_IMAGE for $arch from Debian's packages with mmdebstrap" make_base "$(debian_arch "$arch")" "$kept"
  fi
  logged "pushing $image" push_import "$kept" "linux/$(debian_arch "$arch")" "$image"
  echo "$image"
}

push_import() { docker import --platform "$2" --change 'CMD ["bash"]' "$1" "$3" && docker push "$3"; }
