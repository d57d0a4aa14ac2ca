# shellcheck shell=bash
# Packages from Debian or Ubuntu, and single files out of a newer Debian's packages where the system is older.

# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# apt's own directories of a suite, and what was taken out of its packages.
suite_dir() { echo "$CACHE/$1"; }

# The name of the system: debian, ubuntu, or something else.
system_id() { sed -n 's/^ID="\{0,1\}\([a-z]*\)"\{0,1\}$/\1/p' /etc/os-release; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }

# The package lists are refreshed once in a script's life, and only when something is to be installed.
APT_FRESH=''
apt_update() {
  [ -z "$APT_FRESH" ] || return 0
  logged "refreshing the package lists (apt-get update)" apt update
  APT_FRESH=1
}

candidate() { LC_ALL=C apt-cache policy "$1" | sed -n 's/^ *Candidate: *//p' | grep -v '(none)'; }

# need_packages NAME...: installs those that are missing.
need_packages() {
  local name missing=()
  has apt-get || die "this script installs packages with apt-get, and this machine has none" \
    "install by hand: $*"
  for name in "$@"; do
    installed "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  apt_update
  logged "installing from $(system_id)'s packages: ${missing[*]}" apt install -y --no-install-recommends "${missing[@]}"
}

# need_without_service PACKAGE: installs it, and does not let it start a service: the tests start their own.
need_without_service() {
  local name=$1 policy=/usr/sbin/policy-rc.d made=''
  installed "$name" && return 0
  if [ ! -e "$policy" ]; then
    # Debian's own way to say so; 101 is "not allowed" (invoke-rc.d(8)).
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 0755 "$policy"
    made=1
  fi
  need_packages "$name"
  [ -z "$made" ] || as_root rm -f "$policy"
}

# need_command COMMAND PACKAGE
need_command() { has "$1" || need_packages "$2"; }

# debian_sources SUITE: sources.list lines for a Debian release, from the mirrors that this system uses itself;
# fails where this system is not Debian.
debian_sources() {
  local suite=$1 main security
  [ "$(system_id)" = debian ] || return 1
  main=$(apt_uri Debian)
  security=$(apt_uri Debian-Security)
  [ -n "$main" ] || return 1
  echo "deb $main $suite main"
  # Unstable gets everything at once.
  [ "$suite" != sid ] || return 0
  echo "deb $main $suite-updates main"
  [ -z "$security" ] || echo "deb $security $suite-security main"
}

apt_uri() {
  # shellcheck disable=SC2016 # apt's own variable
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" 2>/dev/null | sort -u | head -n 1
}

# suite_lists SUITE KIND PACKAGE: reads the lists of packages (deb) or of their sources (deb-src) of another Debian. apt does it with sources,
# lists and settings of its own, and checks the signatures as always; the system's are not touched.
suite_lists() {
  local suite=$1 dir
  dir=$(suite_dir "$suite")
  mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/debs"
  need_packages debian-archive-keyring
  apt_update
  debian_sources "$suite" | sed "s|^deb |$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] |" >"$dir/sources.list" ||
    die "the address of a Debian mirror is not known on this system" "install by hand what Debian's package $3 has"
  logged "reading the lists of Debian $suite (for $3 only; the system stays as it is)" suite_apt "$suite" update
}

# suite_file SUITE PACKAGE PATH: prints where PATH out of that Debian's PACKAGE lies unpacked.
suite_file() {
  local suite=$1 package=$2 path=$3 dir into
  dir=$(suite_dir "$suite")
  into=$dir/$package
  if [ ! -e "$into/$path" ]; then
    suite_lists "$suite" deb "$package"
    (cd "$dir/debs" && rm -f "${package}"_*.deb &&
      logged "fetching Debian $suite's $package" suite_apt "$suite" download "$package")
    rm -rf "$into.new" "$into"
    dpkg-deb -x "$dir/debs/${package}"_*.deb "$into.new"
    mv "$into.new" "$into"
  fi
  [ -e "$into/$path" ] || die "$suite's package $package has no $path"
  echo "$into/$path"
}

# suite_source SUITE PACKAGE DIR: unpacks the source of that Debian's PACKAGE, with Debian's own patches, in a directory in DIR.
suite_source() {
  need_command dpkg-source dpkg-dev
  need_command patch patch
  suite_lists "$1" deb-src "$2"
  (cd "$3" && logged "fetching the source of Debian $1's $2" suite_apt "$1" source "$2")
}

# suite_apt SUITE ARGUMENTS...
suite_apt() {
  local dir
  dir=$(suite_dir "$1")
  shift
  apt-get -q -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$dir/lists" -o Dir::Cache::Archives="$dir/archives" -o Dir::State::status=/dev/null \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o APT::Update::Post-Invoke::= "$@"
}
