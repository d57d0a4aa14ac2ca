//! Programs beside the agent: reached by it alone, and a hostile one gets nowhere.

use std::fmt::Write as _;

use bottle_testkit::{Upstream, commands, said, sh};

use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, here};

/// The manifest of most tests with these services: each a name, a port, a script that is it on either backend, and more keys.
pub(crate) fn with_services(upstream: &Upstream, services: &[(&str, u16, &str, &str)]) -> String {
    let mut text = "    services:\n".to_owned();
    for (name, port, script, more) in services {
        let words = serde_json::json!(["sh", "-c", script]);
        let _ = writeln!(
            text,
            "      {name}: {{ image: \"claude-bottle-test/service:1\", command: {words}, program: {words}, ports: [{port}], {more} }}"
        );
    }
    manifest(upstream).replace("    egress:\n", &format!("{text}    egress:\n"))
}

/// A Redis that does as it is told by whoever can talk to it: once its key `go` is set it tries each way out, and says how that went.
fn hostile(port: u16, addresses: &str) -> String {
    let mut script = r#"redis-server --save '' --appendonly no --requirepass "$REDIS_PASSWORD" &
export REDISCLI_AUTH="$REDIS_PASSWORD"
until [ "$(redis-cli get go 2>/dev/null)" = 1 ]; do sleep 0.05; done
try() { name=$1; shift; if timeout 3 "$@" >/dev/null 2>&1; then echo "way open: $name"; else echo "way shut: $name"; fi; }
tcp() { try "$1 port $2" bash -c "exec 3<>/dev/tcp/$1/$2"; }
tcp 127.0.0.1 6379
"#
    .to_owned();
    for address in addresses.split_whitespace() {
        let _ = writeln!(script, "tcp {address} {port}");
    }
    script.push_str(
        r#"for to in 1.1.1.1 169.254.169.254 172.17.0.1 host.docker.internal metadata.google.internal agent sidecars; do tcp $to 80; done
for at in 8889 8888 9418 9100 6380; do tcp 127.0.0.1 $at; tcp egress $at; tcp other $at; done
try dns bash -c 'exec 3<>/dev/udp/8.8.8.8/53; echo x >&3; head -c 1 <&3'
try name getent hosts example.com
try raw perl -MSocket -e 'socket(S, AF_INET, SOCK_RAW, 1) or exit 1'
try packet perl -MSocket -e 'socket(S, 17, SOCK_RAW, 768) or exit 1'
try vsock perl -MSocket -e 'socket(S, 40, SOCK_STREAM, 0) or exit 1'
try route sh -c 'tail -n +2 /proc/net/route | grep .'
try 'an interface' sh -c 'tail -n +3 /proc/net/dev | grep -v lo:'
try mount mount -t tmpfs x /mnt
try 'a namespace' unshare -Ur true
for at in /run/bottle /run/bottle-internal /run/secrets /etc/claude-bottle /var/lib/bottle /workspace/app /var/run/docker.sock; do
  try $at sh -c "ls -A $at | grep ."
done
try 'the rights of others' sh -c 'grep -q "CapEff:.*[1-9a-f]" /proc/self/status'
try 'new privileges' sh -c '! grep -q "NoNewPrivs:.1" /proc/self/status'
try 'all system calls' sh -c '! grep -q "Seccomp:.2" /proc/self/status'
echo "variables: $(env | cut -d= -f1 | sort | tr '\n' ' ')"
redis-cli set tried 1
wait
"#,
    );
    script
}

/// What the agent needs to talk to a Redis: the words of one conversation, of which it prints the answers.
const ASK: &str = r#"ask() { exec 3<>/dev/tcp/$1/$2; shift 2; for words; do printf '%s\r\n' "$words" >&3; IFS= read -r -t 5 line <&3; echo "said ${line%?}"; done; exec 3>&-; }"#;

shared!(the_agent_works_with_a_service_that_reaches_nothing: docker, bubblewrap, smolmachines: "a machine has no services");
fn the_agent_works_with_a_service_that_reaches_nothing() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let hostile = hostile(port, &sh(&["hostname", "-I"]));
    let plain = "exec redis-server --save '' --appendonly no --port 6380";
    let steps = [
        format!(r#"{ASK}; ask cache 6379 PING "AUTH $CACHE_PASSWORD" PING "SET go 1"; ask other 6380 PING"#),
        format!(
            r#"{ASK}; for i in $(seq 400); do ask cache 6379 "AUTH $CACHE_PASSWORD" "EXISTS tried" | grep -q ':1' && echo it has tried && break; sleep 0.1; done"#
        ),
        r#"printf 'DB_PASSWORD=%s\npassword: "%s"\nurl: redis://app:%s@cache:6379/0\n' $CACHE_PASSWORD $CACHE_PASSWORD $CACHE_PASSWORD > settings.yml;
           git add -A && git commit -qm Settings && git push -q origin HEAD && echo it is pushed"#
            .to_owned(),
    ];
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let health = "health: \"REDISCLI_AUTH=$REDIS_PASSWORD redis-cli ping | grep -q PONG\"";
    let job = Job::with_manifest(&commands(&steps), |upstream| {
        let more = format!("env: {{ MODE: test }}, generate: {{ REDIS_PASSWORD: CACHE_PASSWORD }}, {health}");
        let whole = with_services(upstream, &[("cache", 6379, &hostile, &more), ("other", 6380, plain, "time: 30s")]);
        whole.replace("python3 -m unittest", "true")
    });
    let output = job.run();
    drop(listener);
    ended_with(&output, 0);

    let transcript = job.world.record_file("transcript.jsonl");
    for words in ["said -NOAUTH", "said +OK\\nsaid +PONG\\nsaid +OK\\nsaid +PONG", "it has tried", "it is pushed"] {
        assert!(transcript.contains(words), "{words}: {transcript}");
    }
    let log = job.world.record_file("compose.log");
    let ways = |how: &str| log.lines().filter(|line| line.contains(&format!("way {how}: "))).collect::<Vec<_>>();
    // The control: it does reach itself.
    let open = ways("open");
    assert!(open.len() == 1 && open[0].contains("127.0.0.1 port 6379"), "{open:#?}");
    assert!(ways("shut").len() >= 40, "{log}");
    let variables = log.lines().find_map(|line| line.split_once("variables: ")).expect("its variables").1;
    let own = ["MODE", "REDISCLI_AUTH", "REDIS_PASSWORD"];
    let of_a_system = ["HOME", "HOSTNAME", "LANG", "OLDPWD", "PATH", "PWD", "SHLVL", "_"];
    assert!(own.iter().all(|name| variables.split(' ').any(|other| other == *name)), "{variables}");
    assert!(
        variables.split_whitespace().all(|name| own.contains(&name) || of_a_system.contains(&name)),
        "it has what is not its own: {variables}"
    );

    let branch = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    let settings = job.upstream.git(&["show", &format!("{}:settings.yml", branch.trim())]);
    let password = settings.lines().find_map(|line| line.strip_prefix("DB_PASSWORD=")).expect("a password");
    assert_eq!(password.len(), 32, "{settings}");
    let files = [("plan.json", true), ("docker-compose.yml", here() == Place::Docker), ("junit.xml", true)];
    for (file, _) in files.into_iter().filter(|(_, is_there)| *is_there) {
        assert!(!job.world.record_file(file).contains(password), "{file} has what was made for the run");
    }
    assert!(job.world.record_file("junit.xml").contains("name=\"services\""));
    job.nothing_left();
}

shared!(
    a_service_that_is_not_ready_ends_the_run_before_the_agent:
    docker, bubblewrap, smolmachines: "a machine has no services"
);
fn a_service_that_is_not_ready_ends_the_run_before_the_agent() {
    let listens = "redis-server --port 6379 --save '' --daemonize yes > /dev/null; echo up";
    let cases = [
        (
            "echo starting; echo 'no room for data'; exec sleep 600".to_owned(),
            "time: 2s",
            "the service `cache` was not ready within 2s: its ports take no connection; it printed: starting; no room for data",
        ),
        (
            "echo 'unknown option' >&2; exit 3".to_owned(),
            "time: 30s",
            "the service `cache` has ended with 3: unknown option",
        ),
        (
            format!("{listens}; exec sleep 600"),
            "time: 6s, health: \"redis-cli ping >/dev/null && exit 7\"",
            "the service `cache` was not ready within 6s: `redis-cli ping >/dev/null && exit 7` ended with 7; it printed: up",
        ),
    ];
    // On Docker each takes its time, and how a check is run there the test above shows.
    let most = if here() == Place::Docker { 2 } else { cases.len() };
    for (script, more, words) in cases.into_iter().take(most) {
        let job = Job::with_manifest(&commands(&["true"]), |upstream| {
            with_services(upstream, &[("cache", 6379, &script, more)])
        });
        let output = job.run();
        ended_with(&output, 4);
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
        assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
        job.nothing_left();
    }
}
