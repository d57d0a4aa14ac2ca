# shellcheck shell=bash
# A machine in which smolvm works, where this one's /dev/kvm does not boot kernels: QEMU emulates one whose processor has SVM, and
# in it KVM runs smolvm's machines. Everything is emulated twice over, so it is slow; it proves the real thing all the same.
#
# Its clock runs by the instructions that it has done (-icount), not by ours: smolvm gives up on a machine that shows no sign of life
# for half a minute, which on a busy host is nothing. It has one processor: two would only take turns, and while
# one spins and waits for the other the clock hardly moves.
#
# Its disks: the system (Debian trixie, kept in the cache), the data (smolvm, the guest's system, Claude Code; kept too), and what
# was built, made anew each time. Nothing that runs in it changes the first two.

# shellcheck source=scripts/lib/smolvm.sh
. "$(dirname "${BASH_SOURCE[0]}")/smolvm.sh"

OUTER=$CACHE/outer
# shellcheck source=scripts/lib/qemu.sh
. "$(dirname "${BASH_SOURCE[0]}")/qemu.sh"

OUTER_PACKAGES=linux-image-cloud-amd64,kmod,udev,iproute2,openssh-server,openssh-client,git,ca-certificates,procps,bubblewrap,python3-junitparser
OUTER_MEMORY=6000

# What is process 1 in there: no services but sshd.
outer_init() {
  cat <<'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /built
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd 2>/dev/null
hostname outer
ip link set lo up
for module in kvm_amd virtio_net virtio_blk; do modprobe $module; done
chgrp kvm /dev/kvm && chmod 0660 /dev/kvm
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mount /dev/vda /var/tmp && chmod 1777 /var/tmp
mount -o ro /dev/vdb /built
mkdir -p /run/sshd
/usr/sbin/sshd -E /run/sshd.log
echo OUTER-READY
exec setsid sh -c 'while :; do sleep 1000 & wait; done'
INIT
}

# A directory as an ext4 image of SIZE.
image_of() {
  as_root mke2fs -q -t ext4 -m 0 -d "$1" "$2.new" "$3" && as_root chown "$(id -u)" "$2.new" && mv "$2.new" "$2"
}

# ensure_outer [unmended]: QEMU, and the two disks that are kept.
ensure_outer() {
  local stamp dir
  need_command mke2fs e2fsprogs
  need_command ssh openssh-client
  mkdir -p "$OUTER"
  chmod 0700 "$OUTER"
  ensure_qemu "$@"
  stamp=$OUTER/system-$({ echo "$OUTER_PACKAGES" && outer_init; } | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    step "a machine for smolvm, emulated"
    need_packages mmdebstrap debian-archive-keyring
    rm -f "$OUTER"/system-* "$OUTER/key" "$OUTER/key.pub"
    ssh-keygen -q -t ed25519 -N '' -C outer -f "$OUTER/key"
    logged "making its system from Debian's packages with mmdebstrap" make_outer_system
    touch "$stamp"
  fi
  stamp=$OUTER/data-$({ echo "$SMOLVM_VERSION $CLAUDE_VERSION $GITLEAKS_VERSION archive" && docker image inspect -f '{{.Id}}' "$(image_tag agent)"; } | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    rm -f "$OUTER"/data-*
    logged "putting smolvm, the guest's system and Claude Code on its disk" make_outer_data
    touch "$stamp"
  fi
}

# readable DIR: smolvm's monitor reads a guest's system as a user of its own, and what it can't read is closed to root in there too.
readable() {
  as_root find "$1" -xdev '(' -type d ! -perm -5 -o -type f ! -perm -4 ')' -exec chmod o+rX {} +
}

# Both run where errexit is off, hence the chains.
make_outer_system() {
  local dir rc=0 sources=()
  dir=$(scratch)
  if debian_sources trixie >"$dir/sources.list"; then sources=("$dir/sources.list"); fi
  as_root mmdebstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include="$OUTER_PACKAGES" --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
    trixie "$dir/system" "${sources[@]}" &&
    outer_init | as_root tee "$dir/system/sbin/outer-init" >/dev/null &&
    as_root chmod 0755 "$dir/system/sbin/outer-init" &&
    as_root install -D -m 0600 "$OUTER/key.pub" "$dir/system/root/.ssh/authorized_keys" &&
    as_root chmod 0700 "$dir/system/root" "$dir/system/root/.ssh" &&
    as_root sh -c "grep -q '^kvm:' '$dir/system/etc/group' || chroot '$dir/system' groupadd --system kvm" &&
    as_root cat "$dir"/system/boot/vmlinuz-* >"$OUTER/kernel" &&
    image_of "$dir/system" "$OUTER/system.img" 6G || rc=$?
  as_root rm -rf "$dir"
  return "$rc"
}

# archive_of DIR FILE: that system as `docker save` has it, without Claude Code.
archive_of() {
  local image=claude-bottle-test/bare:1 rc=0
  as_root tar -C "$1" --exclude=./opt/claude-bottle -c . | docker import - "$image" >/dev/null &&
    docker save -o "$2" "$image" || rc=$?
  docker rmi "$image" >/dev/null
  return "$rc"
}

make_outer_data() {
  local dir rc=0 id
  dir=$(scratch)
  id=$(docker create "$(image_tag agent)") &&
    mkdir -p "$dir/data/rootfs" "$dir/data/cache/smolvm" "$dir/data/cache/bin" "$dir/data/cache/claude/$CLAUDE_VERSION" &&
    { docker export "$id" | as_root tar -x -p -C "$dir/data/rootfs" || rc=$?; }
  docker rm "$id" >/dev/null
  [ "$rc" = 0 ] && readable "$dir/data/rootfs" && archive_of "$dir/data/rootfs" "$dir/data/archive.tar" && chmod 0644 "$dir/data/archive.tar" &&
    cp -R --sparse=always "$SMOLVM_DIR" "$dir/data/cache/smolvm/" &&
    cp "$GITLEAKS" "$dir/data/cache/bin/gitleaks" &&
    as_root ln "$dir/data/rootfs/opt/claude-bottle/bin/claude" "$dir/data/cache/claude/$CLAUDE_VERSION/claude" &&
    image_of "$dir/data" "$OUTER/data.img" 8G || rc=1
  as_root rm -rf "$dir"
  return "$rc"
}

# start_outer DIR: boots it with DIR's files at /built, read-only; it ends with this script. Its console is $OUTER_RUN/console.
start_outer() {
  local wait
  OUTER_RUN=$(scratch)
  logged "putting what was built on a disk of its own" image_of "$1" "$OUTER_RUN/built.img" 3G
  OUTER_PORT=$((20000 + RANDOM % 30000))
  say "booting it (its console: $OUTER_RUN/console)"
  setsid nice -n 5 "${QEMU[@]}" -accel tcg,thread=single,tb-size=1024 -icount shift=0,sleep=on -cpu max -machine q35 -smp 1 -m "$OUTER_MEMORY" \
    -nodefaults -display none -serial stdio -no-reboot -kernel "$OUTER/kernel" \
    -append 'root=/dev/nvme0n1 rw console=ttyS0 init=/sbin/outer-init quiet mitigations=off net.ifnames=0' \
    -drive "file=$OUTER/system.img,format=raw,if=none,id=system,snapshot=on" -device nvme,drive=system,serial=system \
    -drive "file=$OUTER/data.img,format=raw,if=virtio,snapshot=on" \
    -drive "file=$OUTER_RUN/built.img,format=raw,if=virtio,snapshot=on" \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$OUTER_PORT-:22" -device virtio-net-pci,netdev=net,romfile= \
    -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
    </dev/null >"$OUTER_RUN/console" 2>&1 &
  OUTER_PID=$!
  trap 'stop_outer; rm -rf "$CACHE/scratch.$$"' EXIT
  for wait in $(seq 1800); do
    if grep -q OUTER-READY "$OUTER_RUN/console"; then break; fi
    kill -0 "$OUTER_PID" 2>/dev/null || die "QEMU ended: $(tail -n 3 "$OUTER_RUN/console")"
    [ "$wait" -lt 1800 ] || die "the machine does not come up" "its console: $OUTER_RUN/console"
    sleep 0.2
  done
  for wait in $(seq 60); do
    if in_outer true 2>/dev/null; then break; fi
    [ "$wait" -lt 60 ] || die "the machine's sshd does not answer" "its console: $OUTER_RUN/console"
    sleep 1
  done
  say "${DIM}it is up after $SECONDS s${PLAIN}"
}

# in_outer COMMAND...: runs a shell command in it, as root; for OUTER_LIMIT seconds at most, where that is set.
in_outer() {
  timeout --foreground "${OUTER_LIMIT:-0}" ssh -q -F /dev/null -i "$OUTER/key" -p "$OUTER_PORT" -o BatchMode=yes -o ConnectTimeout=60 -o ServerAliveInterval=30 \
    -o ServerAliveCountMax=20 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlMaster=auto \
    -o ControlPath="$OUTER_RUN/ssh" -o ControlPersist=600 root@127.0.0.1 "$@"
}

stop_outer() {
  [ -z "${OUTER_PID:-}" ] || kill "$OUTER_PID" 2>/dev/null || true
  OUTER_PID=''
}
