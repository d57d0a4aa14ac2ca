# shellcheck shell=bash
# The demo itself: the main job on the shipped sample. scripts/demo has made everything that it needs.
#
# The upstream is a real sshd, which goes at the end: in a container of its own, reached at the engine's bridge address, or, where
# the bottle runs in bubblewrap, a process on loopback.

# Both start the upstream with the public key $1, the second at the address $2 (default: loopback), and say where it is: UPSTREAM (the container, or none), ADDRESS, PORT, HOST_KEY,
# GIT_USER, GIT_PATH (the repository).
start_upstream_docker() {
  local key=$1 wait
  GIT_USER=git GIT_PATH=/srv/git/app.git
  ADDRESS=$(docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}')
  [ -n "$ADDRESS" ] || ADDRESS=$(docker network inspect bridge --format '{{(index .IPAM.Config 0).Subnet}}' | sed 's|0/.*|1|')
  UPSTREAM=$(docker run --detach --label io.claude-bottle.demo=1 --publish "$ADDRESS::22" \
    --env "AUTHORIZED_KEYS=$(cat "$key")" "$(image_tag upstream)")
  PORT=$(docker port "$UPSTREAM" 22/tcp | head -n 1 | sed 's/.*://')
  for wait in $(seq 100); do
    if docker logs "$UPSTREAM" 2>&1 | grep -q 'Server listening'; then break; fi
    [ "$wait" -lt 100 ] || die "the upstream's sshd did not start" "docker logs $UPSTREAM"
    sleep 0.05
  done
  HOST_KEY=$(docker exec "$UPSTREAM" cut -d ' ' -f 1,2 /etc/ssh/keys/ssh_host_ed25519_key.pub)
}

start_upstream_bubblewrap() {
  local key=$1 dir wait
  dir=$(dirname "$key")
  UPSTREAM='' ADDRESS=${2:-127.0.0.1} GIT_USER=$(id -un) GIT_PATH=$dir/app.git
  ssh-keygen -q -t ed25519 -N '' -C upstream -f "$dir/host"
  HOST_KEY=$(cut -d ' ' -f 1,2 "$dir/host.pub")
  # As root, sshd drops its privileges into this directory.
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  for wait in $(seq 20); do
    PORT=$((20000 + RANDOM % 30000))
    cat >"$dir/sshd_config" <<CONFIG
ListenAddress $ADDRESS:$PORT
HostKey $dir/host
AuthorizedKeysFile $key
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AcceptEnv GIT_PROTOCOL
SetEnv SHLVL=1
CONFIG
    /usr/sbin/sshd -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
    SSHD=$!
    # The end of the run is waited for, not the end of this.
    disown "$SSHD"
    for _ in $(seq 100); do
      if grep -q 'Server listening' "$dir/sshd.log"; then return; fi
      kill -0 "$SSHD" 2>/dev/null || break
      sleep 0.02
    done
  done
  die "the upstream's sshd did not start: $(tail -n 1 "$dir/sshd.log")"
}

# A program where the upstream is.
upstream_runs() {
  if [ -n "$UPSTREAM" ]; then docker exec --user git "$UPSTREAM" "$@"; else "$@"; fi
}

# git at the upstream, on the sample's repository.
at_upstream() {
  upstream_runs git --git-dir "$GIT_PATH" "$@"
}

# Makes the repository of the sample $3 (default: the shipped one) in the directory $1, with the upstream's address in its manifest, and
# pushes it.
make_sample() {
  local dir=$1 identity=$2 sample=${3:-$ROOT/examples/sample}
  cp -R "$sample" "$dir"
  sed -e "s|git@git.bottle.test:@PORT@/srv/git/app.git|$GIT_USER@git.bottle.test:$PORT$GIT_PATH|" -e "s|@IDENTITY@|$identity|" -e "s|@HOST_KEY@|$HOST_KEY|" -e "s|@ADDRESS@|$ADDRESS|" \
    "$dir/claude-bottle.yml.in" >"$dir/claude-bottle.yml"
  rm "$dir/claude-bottle.yml.in"
  upstream_runs git init --quiet --bare --initial-branch main "$GIT_PATH"
  (
    cd "$dir" || exit
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
    export GIT_AUTHOR_NAME=Sample GIT_AUTHOR_EMAIL=sample@bottle.test GIT_COMMITTER_NAME=Sample GIT_COMMITTER_EMAIL=sample@bottle.test
    export GIT_SSH_COMMAND="ssh -F /dev/null -i '$identity' -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile='$dir.known' -o StrictHostKeyChecking=yes"
    printf '[%s]:%s %s\n' "$ADDRESS" "$PORT" "$HOST_KEY" >"$dir.known"
    git init --quiet --initial-branch main
    git add --all
    git commit --quiet -m "Count words"
    git remote add origin "ssh://$GIT_USER@$ADDRESS:$PORT$GIT_PATH"
    git push --quiet origin main
    git fetch --quiet origin
    git remote set-head origin main
    # Its address was needed to push from here; the manifest has a name.
    git remote set-url origin "ssh://$GIT_USER@git.bottle.test:$PORT$GIT_PATH"
  )
}

# allow_addresses SAMPLE HOST...: lets the sample's bottle reach these hosts where their names lead, which for a mirror of a registry may be this
# machine's own network.
allow_addresses() {
  local sample=$1 host addresses
  shift
  addresses=$(for host in "$@"; do getent ahostsv4 "$host" || true; done | awk '{ print "\"" $1 "/32\"" }' | sort -u | paste -sd ,)
  sed -i "s|^    resources:|    pipelock: { allow_private: [$addresses] }\n&|" "$sample/claude-bottle.yml.in"
}

# What the upstream must have afterwards: main as it was, and the clean branch with one commit more.
check_upstream() {
  local main=$1 refs branch
  refs=$(at_upstream for-each-ref --format '%(refname)')
  branch=$(grep '^refs/heads/bottle/' <<<"$refs") || die "the upstream has no branch below bottle/"
  [ "$refs" = "$(printf '%s\nrefs/heads/main' "$branch")" ] || die "the upstream has other refs than the one branch and main: $refs"
  [ "$(at_upstream rev-parse main)" = "$main" ] || die "the upstream's main has moved"
  [ "$(at_upstream rev-parse "$branch^")" = "$main" ] || die "$branch is not one commit on main"
  [ "$(at_upstream diff-tree --no-commit-id --name-only -r "$branch")" = textstats.py ] ||
    die "$branch changes other files than textstats.py"
  say "upstream: $(at_upstream log -1 --format="%h on ${branch#refs/heads/}: %s" "$branch")"
}

run_demo() {
  local backend=$1 dir main code=0
  need_command ssh-keygen openssh-client
  dir=$CACHE/scratch.$$/demo
  mkdir -p "$dir"
  # The run record stays; the sample, its upstream and its keys go, however this ends.
  trap '[ -z "${UPSTREAM:-}" ] || docker rm --force --volumes "$UPSTREAM" >/dev/null 2>&1
    [ -z "${SSHD:-}" ] || kill "$SSHD" 2>/dev/null
    rm -rf "$CACHE/scratch.$$"' EXIT
  step "the sample's upstream: a real sshd, with a fresh host key"
  ssh-keygen -q -t ed25519 -N '' -C demo -f "$dir/id"
  "start_upstream_$backend" "$dir/id.pub"
  make_sample "$dir/app" "$dir/id"
  main=$(git -C "$dir/app" rev-parse HEAD)
  step "the run: $ROOT/examples/issue-labeled.json, the model answered by $ROOT/examples/cassette.yml"
  "$RUNNER" run --event "$ROOT/examples/issue-labeled.json" --cwd "$dir/app" --backend "$backend" \
    --replay "$ROOT/examples/cassette.yml" 2> >(tee "$dir/said" >&2) || code=$?
  wait
  [ "$code" = 0 ] || die "the run ended with $code"
  check_upstream "$main"
  record=$(sed -n 's/^run record: //p' "$dir/said")
  say "look first at $record/summary.md, then at transcript.jsonl, egress.jsonl and gate.jsonl beside it"
  printf 'run record: %s\n' "$record"
}
