# shellcheck shell=bash
# The images: two that users run, three that tests and the demo use.

# shellcheck source=scripts/lib/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

BASE_IMAGE=debian:trixie-slim
INPUTS_LABEL=io.claude-bottle.inputs

image_tag() {
  case $1 in
    sidecars | agent) echo "ghcr.io/claude-bottle/$1:v1" ;;
    upstream | foreign | clients | service) echo "claude-bottle-test/$1:1" ;;
    *) die "there is no image '$1'" "the images are: sidecars, agent, upstream, foreign, clients, service, all" ;;
  esac
}

image_there() { docker image inspect "$1" >/dev/null 2>&1; }

# ensure_base: the base image from a registry, or the same made from Debian's packages.
ensure_base() {
  ! image_there "$BASE_IMAGE" || return 0
  step "base image $BASE_IMAGE"
  if try_pull "$BASE_IMAGE"; then return 0; fi
  need_packages mmdebstrap debian-archive-keyring
  logged "making $BASE_IMAGE from Debian's packages with mmdebstrap" import_base
}

# They run where errexit is off, hence the chains.
import_base() {
  local dir rc=0
  dir=$(scratch)
  make_base "$(dpkg --print-architecture)" "$dir/base.tar" && docker import --change 'CMD ["bash"]' "$dir/base.tar" "$BASE_IMAGE" || rc=$?
  rm -rf "$dir"
  return "$rc"
}

# make_base ARCHITECTURE FILE: the base image's files, for a machine by Debian's name of it.
make_base() {
  local dir rc=0 sources=()
  dir=$(scratch)
  if debian_sources trixie >"$dir/sources.list"; then sources=("$dir/sources.list"); fi
  # The slim images leave out documentation, but for licences.
  as_root mmdebstrap --variant=minbase --architectures="$1" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
    trixie "$dir/base.tar" "${sources[@]}" && mv "$dir/base.tar" "$2" || rc=$?
  rm -rf "$dir"
  return "$rc"
}

# gitleaks_source: the image that Dockerfile.sidecars copies gitleaks from: the official one where it was to be had, else
# one made of the same binary.
gitleaks_source() {
  local image local_image=claude-bottle/gitleaks:$GITLEAKS_VERSION
  image=$(gitleaks_image)
  if image_there "$image"; then
    echo "$image"
    return
  fi
  image_there "$local_image" ||
    tar -C "$CACHE/gitleaks/$GITLEAKS_VERSION" --owner=0 --group=0 -c usr | docker import - "$local_image" >/dev/null
  echo "$local_image"
}

# The programs that go into an image come from target/, or all from BINS_DIR where that is set.
ensure_program() {
  if [ -n "${BINS_DIR:-}" ]; then
    [ -f "$BINS_DIR/$1" ] || die "BINS_DIR has no $1"
    return 0
  fi
  case $1 in
    bottle-sidecars) build_sidecars ;;
    bottle-link) build_link ;;
  esac
}

program_path() {
  if [ -n "${BINS_DIR:-}" ]; then
    echo "$BINS_DIR/$1"
    return
  fi
  case $1 in
    bottle-sidecars) echo "$SIDECARS" ;;
    bottle-link) link_path ;;
  esac
}

# ensure_image NAME: builds an image unless one is there that was made from the same inputs.
ensure_image() {
  local name=$1 tag file inputs source context variable program extra='' args=() programs=()
  tag=$(image_tag "$name")
  file=$ROOT/images/Dockerfile.$name
  case $name in
    sidecars)
      ensure_gitleaks
      programs=(bottle-sidecars)
      source=$(gitleaks_source)
      args+=(--build-arg "GITLEAKS=$source")
      extra=$GITLEAKS_VERSION
      ;;
    agent)
      ensure_claude
      programs=(bottle-link)
      args+=(--build-arg "CLAUDE_VERSION=$CLAUDE_VERSION")
      extra=$CLAUDE_VERSION
      ;;
    clients)
      ensure_clients
      extra=$CLIENTS
      ;;
    upstream) extra=$(sha256sum "$ROOT/images/upstream-entrypoint.sh") ;;
  esac
  for program in "${programs[@]}"; do ensure_program "$program"; done
  ensure_base

  inputs=$(
    {
      docker image inspect -f '{{.Id}}' "$BASE_IMAGE"
      sha256sum <"$file"
      printf '%s\n' "$extra" "${args[*]}"
      for program in "${programs[@]}"; do sha256sum <"$(program_path "$program")"; done
    } | sha256sum | cut -d' ' -f1
  )
  if [ "$(docker image inspect -f "{{index .Config.Labels \"$INPUTS_LABEL\"}}" "$tag" 2>/dev/null)" = "$inputs" ]; then
    return 0
  fi

  step "image $tag"
  context=$CACHE/context/$name
  rm -rf "$context"
  mkdir -p "$context"
  for program in "${programs[@]}"; do install -m 0755 "$(program_path "$program")" "$context/$program"; done
  case $name in
    agent) ln "$CLAUDE" "$context/claude" ;;
    clients) cp -a "$CLIENTS/." "$context/" ;;
    upstream) install -m 0755 "$ROOT/images/upstream-entrypoint.sh" "$context/" ;;
  esac
  for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!variable:-}" ] || args+=(--build-arg "$variable")
  done
  logged "building it with BuildKit" docker buildx build --builder default --load --progress plain \
    --file "$file" --tag "$tag" --label "$INPUTS_LABEL=$inputs" \
    --secret "id=ca,src=$(ca_bundle)" "${args[@]}" "$context"
  rm -rf "$context"
}

# ensure_images NAME...: one script at a time.
ensure_images() {
  local name
  exec 8>"$CACHE/images.lock"
  flock -n 8 || {
    say "waiting for another script that is making images"
    flock 8
  }
  for name in "$@"; do ensure_image "$name"; done
  exec 8>&-
}
