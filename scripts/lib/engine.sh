# shellcheck shell=bash
# A Docker engine that answers, with Compose v2 and buildx.

# shellcheck source=scripts/lib/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

PLUGINS=/usr/local/lib/docker/cli-plugins

engine_answers() { has docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

wait_for_engine() {
  local seconds=$1 _
  for _ in $(seq $((seconds * 5))); do
    ! engine_answers || return 0
    # A socket that is there and closed to us won't open by waiting.
    [ ! -S /var/run/docker.sock ] || [ -w /var/run/docker.sock ] || return 1
    sleep 0.2
  done
  return 1
}

# Membership counts from the next login on, or in a script that is started again under that group.
join_docker_group() {
  [ "$(id -u)" != 0 ] && [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ] || return 0
  [ -z "${CLAUDE_BOTTLE_IN_GROUP:-}" ] || die "no access to the Docker socket" "log in again, or run this as root"
  say "adding $(id -un) to the group docker, which may use the engine"
  as_root usermod -aG docker "$(id -un)"
  export CLAUDE_BOTTLE_IN_GROUP=1
  exec sg docker -c "$(printf '%q ' "${ENTRY[@]}")"
}

start_engine() {
  local log=$LOGS/dockerd.log
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || true
    join_docker_group
    if wait_for_engine 20; then return 0; fi
    die "the service docker does not answer" "look at: journalctl -u docker"
  fi
  say "starting dockerd (its log: $log)"
  # A lock on the log's neighbour keeps two scripts from starting two engines.
  (
    # What a caller has open, a lock of its own for one, is not for an engine that outlives it. (255 is bash's own.)
    for open in /proc/"$BASHPID"/fd/*; do
      open=${open##*/}
      [ "$open" -le 2 ] || [ "$open" = 255 ] || exec {open}>&-
    done
    exec 9>"$LOGS/dockerd.lock"
    flock 9
    if ! engine_answers; then
      # shellcheck disable=SC2024 # the log is ours, not root's
      as_root setsid nohup dockerd >>"$log" 2>&1 </dev/null 9>&- &
    fi
    for _ in $(seq 100); do
      if [ -S /var/run/docker.sock ] && { [ ! -w /var/run/docker.sock ] || engine_answers; }; then break; fi
      sleep 0.3
    done
  )
  join_docker_group
  wait_for_engine 10 || {
    tail -n 15 "$log" | sed 's/^/    | /' >&2
    die "dockerd does not answer" "its whole log: $log"
  }
}

compose_works() { docker compose version --short 2>/dev/null | grep -qE '^v?([2-9]|[1-9][0-9])\.'; }
buildx_works() { docker buildx version >/dev/null 2>&1; }

# install_plugin NAME UBUNTU_PACKAGE DEBIAN_PACKAGE: this system's own package where it is new enough, else Debian trixie's.
install_plugin() {
  local name=$1 ubuntu=$2 debian=$3 version file
  apt_update
  if [ "$(system_id)" = ubuntu ] && [ -n "$(candidate "$ubuntu")" ]; then
    need_packages "$ubuntu"
    return
  fi
  version=$(candidate "$debian" || true)
  case $name in
    docker-compose) [ "${version%%.*}" -ge 2 ] 2>/dev/null || version='' ;;
  esac
  if [ -n "$version" ]; then
    need_packages "$debian"
    return
  fi
  file=$(suite_file trixie "$debian" "usr/libexec/docker/cli-plugins/$name")
  say "putting trixie's $name into $PLUGINS"
  as_root mkdir -p "$PLUGINS"
  as_root install -m 0755 "$file" "$PLUGINS/$name"
}

# ensure_engine: afterwards docker, docker compose and docker buildx work.
ensure_engine() {
  local packages
  if ! engine_answers; then
    join_docker_group
    step "Docker engine"
    if ! as_root sh -c 'command -v dockerd' >/dev/null; then
      packages=(docker.io ca-certificates)
      # With AppArmor on in the kernel, no container starts without its parser.
      ! grep -qs Y /sys/module/apparmor/parameters/enabled || packages+=(apparmor)
      need_packages "${packages[@]}"
    fi
    has docker || need_packages docker-cli
    engine_answers || start_engine
  fi
  if ! compose_works; then
    step "Docker Compose v2"
    install_plugin docker-compose docker-compose-v2 docker-compose
    compose_works || die "docker compose does not work" "try: docker compose version"
  fi
  if ! buildx_works; then
    step "Docker buildx"
    install_plugin docker-buildx docker-buildx docker-buildx
    buildx_works || die "docker buildx does not work" "try: docker buildx version"
  fi
}
