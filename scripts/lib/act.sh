# shellcheck shell=bash
# shellcheck disable=SC2154 # release.sh and demo.sh set what is read here
# A shipped workflow as a stranger's job: run by act, at the stand-in forge, with the action as a tag gives it and the release from the
# mirror. The job's machine has no checkout of this project.

# shellcheck source=scripts/lib/demo.sh
. "$(dirname "${BASH_SOURCE[0]}")/demo.sh"

# start_forge DIR: the stand-in for github.com, with the sample's issue. Sets FORGE (its address), FORGE_PID and FORGE_TOKEN; DIR/forge.pem is its authority.
start_forge() {
  local dir=$1 key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
  FORGE_TOKEN=$(openssl rand -hex 32)
  openssl req -x509 "${key[@]}" -days 2 -subj /CN=authority -keyout "$dir/authority.key" -out "$dir/forge.pem" 2>/dev/null
  openssl req "${key[@]}" -subj /CN=forge -keyout "$dir/forge.key" -out "$dir/forge.csr" 2>/dev/null
  openssl x509 -req -in "$dir/forge.csr" -CA "$dir/forge.pem" -CAkey "$dir/authority.key" -CAcreateserial -days 2 \
    -extfile <(echo 'subjectAltName=IP:127.0.0.1') -out "$dir/forge.crt" 2>/dev/null
  jq --null-input --arg token "$FORGE_TOKEN" '{owner: "octo-org", name: "textstats", default_branch: "main", token: $token, me_readable: false,
    me: {login: "github-actions[bot]", id: 41898282, type: "Bot"}, users: {"octo-maintainer": {id: 5550108, permission: "write"}},
    issues: [{number: 7, title: "Words followed by punctuation are counted wrong"}]}' >"$dir/state.json"
  "$BOTTLE_TEST_PYTHON" "$ROOT/tests/fixtures/forge/double.py" --kind github --address 127.0.0.1 --spec "$BOTTLE_TEST_SPECS/github.json" \
    --state "$dir/state.json" --log "$dir/forge.jsonl" --cert "$dir/forge.crt" --key "$dir/forge.key" >"$dir/forge.port" 2>"$dir/forge.log" &
  FORGE_PID=$!
  disown "$FORGE_PID"
  started "$dir/forge.log" "$FORGE_PID" test -s "$dir/forge.port" || die "the stand-in forge did not start"
  FORGE=127.0.0.1:$(cat "$dir/forge.port")
}

# event_of WORKFLOW: a maintainer's comment on the sample's issue, the issue's label, a button that was pressed, or the hour that has come.
event_of() {
  case $1 in
    comment) comment_event ;;
    issue) cat "$ROOT/examples/issue-labeled.json" ;;
    dispatch) jq '{inputs: {task: "Make word_counts right for words followed by punctuation"}, ref: "refs/heads/main", repository, sender}' "$ROOT/examples/issue-labeled.json" ;;
    schedule) jq '{schedule: "17 5 * * 1", repository}' "$ROOT/examples/issue-labeled.json" ;;
  esac
}

comment_event() {
  jq '{login: "octo-maintainer", id: 5550108, type: "User"} as $user | del(.label) | .action = "created" | .sender = $user |
    .comment = {id: 900, body: "/claude fix this", user: $user, author_association: "MEMBER", created_at: "2026-03-02T09:20:35Z",
      updated_at: "2026-03-02T09:20:35Z", html_url: (.issue.html_url + "#issuecomment-900")}' "$ROOT/examples/issue-labeled.json"
}

# stand_in DIR NAME RUN: the action actions/NAME that runs this, with the inputs that the workflows give it, as the real one is on no registry.
stand_in() {
  mkdir -p "$1/$2"
  cat >"$1/$2/action.yml" <<ACTION
name: $2
inputs: { name: {}, path: {}, ref: {}, persist-credentials: {} }
runs:
  using: composite
  steps:
    - shell: bash
      env: { AT: "\${{ inputs.path }}", NAME: "\${{ inputs.name }}", REF: "\${{ inputs.ref }}" }
      run: $3
ACTION
}

# act_workflow DIR WORKFLOW BACKEND ADDRESS [NAME=VALUE]...: the shipped workflow in DIR/BACKEND-WORKFLOW, whose upstream listens on this address;
# the job has these variables. DIR has the mirror's files and the action. Fails unless a pull request comes of it.
act_workflow() {
  local release=$1 name=$2 backend=$3 address=$4 dir=$1/$3-$2 main code=0 action variables=() actions=() variable workflow hide=() event
  shift 4
  case $name in
    comment) event=issue_comment ;;
    issue) event=issues ;;
    dispatch) event=workflow_dispatch ;;
    schedule) event=schedule ;;
    *) die "no event is known for the workflow $name" ;;
  esac
  mkdir -p "$dir/home" "$dir/app"
  rmdir "$dir/app"
  ssh-keygen -q -t ed25519 -N '' -C job -f "$dir/id"
  start_upstream_bubblewrap "$dir/id.pub" "$address"
  start_forge "$dir"
  # What a person does once: the workflow as it is shipped, and the mirror's address for the action.
  cp -R "$ROOT/examples/sample" "$dir/sample"
  mkdir -p "$dir/sample/.github/workflows"
  workflow=$ROOT/workflows/github/$name.yml
  mirrored "$workflow" "$dir/sample/.github/workflows/claude.yml" "download-url: \"$MIRROR\"" "replay: \"$dir/cassette.yml\"" "backend: $backend"
  cp "$ROOT/examples/cassette.yml" "$dir/cassette.yml"
  make_sample "$dir/app" "$dir/id" "$dir/sample"
  git -C "$dir/app" remote add forge "https://$FORGE/octo-org/textstats.git"
  main=$(git -C "$dir/app" rev-parse HEAD)
  # shellcheck disable=SC2016 # the job's shell
  stand_in "$dir" upload-artifact 'mkdir -p "'"$dir/uploaded"'" && cp -R "$AT" "'"$dir/uploaded"'/$NAME"'
  # act itself checks out what the event is about, and nothing where a workflow names a ref.
  # shellcheck disable=SC2016 # the job's shell
  stand_in "$dir" checkout 'cp -R "'"$dir/app"'/." . && test "$(git symbolic-ref --short HEAD)" = "$REF"'
  for action in checkout upload-artifact; do
    actions+=(--local-repository "$(sed -n "s|.*uses: \\(actions/$action@[0-9a-f]*\\).*|\\1|p" "$workflow")=$dir/$action")
  done
  event_of "$name" >"$dir/event.json"
  cat "$dir/forge.pem" "$release/trusted.pem" >"$dir/trusted.pem"
  for variable in "SSL_CERT_FILE=$dir/trusted.pem" "CURL_CA_BUNDLE=$dir/trusted.pem" "NODE_EXTRA_CA_CERTS=$dir/trusted.pem" "$@"; do
    variables+=(--env "$variable")
  done
  # Root's job can't see the checkout at all.
  # shellcheck disable=SC2016 # the inner shell's
  [ "$(id -u)" != 0 ] || hide=(unshare --mount --propagation private sh -c 'mount -t tmpfs none "$0" && exec "$@"' "$ROOT")
  (
    cd "$dir/app" || exit
    env -i PATH="${PATH//"$CACHE/bin:"/}" HOME="$dir/home" LANG=C.UTF-8 GITHUB_TOKEN="$FORGE_TOKEN" ANTHROPIC_API_KEY=sk-ant-not-needed-in-a-replay "$@" \
      "${hide[@]}" "$BOTTLE_TEST_ACT" "$event" --no-cache-server --remote-name forge --platform ubuntu-latest=-self-hosted --github-instance "$FORGE" \
      --eventpath "$dir/event.json" --secret GITHUB_TOKEN --secret ANTHROPIC_API_KEY "${variables[@]}" \
      --local-repository "claude-bottle/run@v1=$release/action" "${actions[@]}"
  ) >"$dir/log" 2>&1 || code=$?
  kill "$FORGE_PID"
  if [ "$code" != 0 ]; then
    tail -n 40 "$dir/log" | sed 's/^/    | /' >&2
    die "the workflow $name failed in $backend"
  fi
  check_upstream "$main"
  kill "$SSHD"
  SSHD=''
  check_workflow "$dir" "$name"
}

# mirrored WORKFLOW FILE INPUT...: the shipped workflow as a person has it who gives the action these inputs.
mirrored() {
  local workflow=$1 file=$2
  shift 2
  awk -v inputs="$(printf '          %s\n' "$@")" '
    is_next { is_next = 0; print "        with:"; print inputs; if ($0 == "        with:") next }
    { print }
    /^        id: claude$/ { is_next = 1 }' "$workflow" >"$file"
}

# What must have come of it at the forge, in the log and in the record. Only a thread has a comment and is closed.
check_workflow() {
  local dir=$1 record=$1/uploaded/claude-bottle threads=0
  case $2 in comment | issue) threads=1 ;; esac
  jq --exit-status --argjson threads "$threads" '(.pulls | length) == 1 and ((.comments // []) | length) == $threads and .pulls[0].draft == false and
    (.pulls[0].body | contains("Closes #7.")) == ($threads == 1) and ($threads == 0 or (.comments[0].body | contains("✅")))' "$dir/state.json" >/dev/null ||
    die "the forge has not what the workflow $2 is for: $(jq --compact-output '{pulls, comments}' "$dir/state.json")"
  ! jq --exit-status 'select(.invalid != null or .bad_answer != null)' "$dir/forge.jsonl" || die "the forge was asked what its description does not have"
  ! grep --quiet --fixed-strings "$FORGE_TOKEN" "$dir/log" || die "the token is in the job's log"
  [ -f "$record/summary.md" ] || die "the workflow has kept no record"
  "$RUNNER" verify-record "$record" >&2
  say "workflow $2: pull request #$(jq '.pulls[0].number' "$dir/state.json") on branch $(jq --raw-output '.pulls[0].head' "$dir/state.json")"
}
