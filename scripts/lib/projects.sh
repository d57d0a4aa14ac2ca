# shellcheck shell=bash
# The projects of examples/projects: what each needs of this machine or of an image, and a run in it.

# shellcheck source=scripts/lib/images.sh
. "$(dirname "${BASH_SOURCE[0]}")/images.sh"
# shellcheck source=scripts/lib/demo.sh
. "$(dirname "${BASH_SOURCE[0]}")/demo.sh"

project_names() { (cd "$ROOT/examples/projects" && printf '%s\n' */) | tr -d /; }

# project_needs NAME: the Debian packages of its guest, and those of its service.
project_needs() {
  case $1 in
    django-postgres) GUEST_PACKAGES=(python3-pip) SERVICE_PACKAGES=(postgresql) ;;
    go-module) GUEST_PACKAGES=(golang-go) SERVICE_PACKAGES=() ;;
    java-maven) GUEST_PACKAGES=(default-jdk-headless maven) SERVICE_PACKAGES=() ;;
    node-redis) GUEST_PACKAGES=(nodejs npm) SERVICE_PACKAGES=(redis-server) ;;
    rust-workspace) GUEST_PACKAGES=(cargo) SERVICE_PACKAGES=() ;;
    web-page) GUEST_PACKAGES=(nodejs npm) SERVICE_PACKAGES=(chromium) ;;
    *) die "there is no project '$1'" "the projects are: $(project_names | paste -sd ' ')" ;;
  esac
}

# ensure_project NAME BACKEND: installs what it needs on this machine, or makes its images.
ensure_project() {
  local name=$1 package program
  project_needs "$name"
  if [ "$2" = docker ]; then
    project_image "$name" "$(image_tag agent)" node "${GUEST_PACKAGES[@]}"
    [ ${#SERVICE_PACKAGES[@]} = 0 ] || project_image "$name-service" "$BASE_IMAGE" nobody "${SERVICE_PACKAGES[@]}"
  fi
  # In Docker, too: the presets ask this machine's own tools.
  for package in "${GUEST_PACKAGES[@]}"; do
    case $package in
      default-jdk-headless) program=javac ;;
      golang-go) program=go ;;
      maven) program=mvn ;;
      nodejs) program=node ;;
      python3-pip) program='' ;;
      *) program=$package ;;
    esac
    if [ -z "$program" ] || ! has "$program"; then need_packages "$package"; fi
  done
  [ "$2" = bubblewrap ] || return 0
  for package in "${SERVICE_PACKAGES[@]}"; do need_without_service "$package"; done
  [ "$name" != rust-workspace ] || lend_toolchain
}

# project_image NAME BASE USER PACKAGE...: an image with packages more than its base, for the user.
project_image() {
  local name=$1 base=$2 user=$3 tag=claude-bottle-example/$1 inputs
  shift 3
  inputs=$({ docker image inspect -f '{{.Id}}' "$base" && sha256sum <"$ROOT/images/Dockerfile.project" && echo "$*"; } | sha256sum | cut -d' ' -f1)
  [ "$(docker image inspect -f "{{index .Config.Labels \"$INPUTS_LABEL\"}}" "$tag" 2>/dev/null)" != "$inputs" ] || return 0
  step "image $tag"
  mkdir -p "$CACHE/context/project"
  logged "building it with BuildKit" docker buildx build --builder default --load --progress plain \
    --file "$ROOT/images/Dockerfile.project" --tag "$tag" --label "$INPUTS_LABEL=$inputs" --secret "id=ca,src=$(ca_bundle)" \
    --build-arg "BASE=$base" --build-arg "USER=$user" --build-arg "PACKAGES=$*" "$CACHE/context/project"
}

# lend_toolchain: shows Rust's toolchain to the guest. Where root has it below a closed home, the guest's user sees links to its files.
lend_toolchain() {
  local root
  root=$(rustc --print sysroot)
  if [ "$(id -u)" = 0 ] && ! setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$root/bin/rustc"; then
    LENT=$(mktemp -d /opt/claude-bottle-rust.XXXXXX)
    chmod 0755 "$LENT"
    cp -al "$root/." "$LENT/" 2>/dev/null || cp -a "$root/." "$LENT/"
    root=$LENT
  fi
  OWN_TOOLS=${BOTTLE_HOST_TOOLS-}
  export BOTTLE_HOST_TOOLS=$root${OWN_TOOLS:+:$OWN_TOOLS}
}

# start_project NAME BACKEND: makes its repository and the upstream of it. Sets PROJECT, the directory of both.
start_project() {
  local name=$1 backend=$2
  PROJECT=$CACHE/scratch.$$/$name
  mkdir -p "$PROJECT"
  need_command ssh-keygen openssh-client
  ssh-keygen -q -t ed25519 -N '' -C demo -f "$PROJECT/id"
  "start_upstream_$backend" "$PROJECT/id.pub"
  cp -R "$ROOT/examples/projects/$name" "$PROJECT/sample"
  mv "$PROJECT/sample/cassette.yml" "$PROJECT/sample/task.md" "$PROJECT/"
  allow_addresses "$PROJECT/sample" pypi.org files.pythonhosted.org registry.npmjs.org index.crates.io static.crates.io proxy.golang.org \
    sum.golang.org repo.maven.apache.org
  make_sample "$PROJECT/app" "$PROJECT/id" "$PROJECT/sample"
}

# end_project: takes away what start_project and ensure_project have made.
end_project() {
  [ -z "${UPSTREAM:-}" ] || docker rm --force --volumes "$UPSTREAM" >/dev/null 2>&1
  [ -z "${SSHD:-}" ] || kill "$SSHD" 2>/dev/null
  [ -z "${LENT:-}" ] || rm -rf "$LENT"
  [ -z "${OWN_TOOLS+set}" ] || BOTTLE_HOST_TOOLS=$OWN_TOOLS
  rm -rf "$CACHE/scratch.$$"
  UPSTREAM='' SSHD='' LENT=''
  unset OWN_TOOLS
}

# run_project NAME BACKEND: one run of its task, the model answered by its cassette.
run_project() {
  local name=$1 backend=$2 image=()
  [ "$backend" = bubblewrap ] || image=(--image "claude-bottle-example/$name")
  "$RUNNER" run --task "$(cat "$PROJECT/task.md")" --cwd "$PROJECT/app" --backend "$backend" "${image[@]}" --replay "$PROJECT/cassette.yml"
}

# What the upstream must have afterwards: main as it was, and a branch with one commit more.
check_project() {
  local main branch
  main=$(git -C "$PROJECT/app" rev-parse HEAD)
  [ "$(at_upstream rev-parse main)" = "$main" ] || die "the upstream's main has moved"
  branch=$(at_upstream for-each-ref --sort=-creatordate --count=1 --format '%(refname)' refs/heads/bottle/)
  [ -n "$branch" ] || die "the upstream has no branch below bottle/"
  [ "$(at_upstream rev-parse "$branch^")" = "$main" ] || die "$branch is not one commit on main"
  say "upstream: $(at_upstream log -1 --format="%h on ${branch#refs/heads/}: %s" "$branch")"
}

demo_project() {
  local name=$1 backend=$2
  step "the upstream of $name: a real sshd, with a fresh host key"
  start_project "$name" "$backend"
  step "the run: $ROOT/examples/projects/$name/task.md, the model answered by cassette.yml beside it"
  run_project "$name" "$backend" || die "the run ended with $?"
  check_project
}
