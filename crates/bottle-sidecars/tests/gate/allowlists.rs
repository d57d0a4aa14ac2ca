//! The base branch's own `.gitleaks.toml` and `.gitleaksignore`, and what they do not reach.

use crate::world::{World, aws_key, hex_token, said};

/// What upstream's default branch has: allowlists, and what must not be taken from the same file.
const CONFIG: &str = "title = 'own'\n[extend]\nuseDefault = true\ndisabledRules = ['generic-api-key']\npath = '/etc/passwd'\n\
                      [allowlist]\npaths = ['^tests/']\n\
                      [[rules]]\nid = 'generic-api-key'\nregex = 'zzz'\n[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['for the docs$']\n\
                      [[allowlists]]\ntargetRules = ['jwt']\npaths = ['.*']\n\
                      [[allowlists]]\npaths = ['.*']\nunknown = 'key'\n";
const IGNORE: &str =
    "# a comment\nnotes/a:generic-api-key:1\n0123456789012345678901234567890123456789:src/ignored:generic-api-key:1\n";

/// A world whose upstream has these files and whose manifest says that they count, or not.
fn world(config: &str, counts: bool) -> World {
    let world = World::with(
        |world| {
            std::fs::write(world.path("config"), config).expect("written");
            std::fs::write(world.path("ignore"), IGNORE).expect("written");
            let seed = "git clone -q origin.git w && cd w && cp ../../config .gitleaks.toml && cp ../../ignore .gitleaksignore \
                        && git add . && git commit -qm lists && git push -q && cd .. && rm -rf w";
            world.ok(&world.path("upstream"), seed);
        },
        |policy| if counts { format!("{policy}base_allowlists: true\n") } else { policy },
    );
    let clone = world.path("clone-0");
    world.clone_origin();
    world.ok(&clone, "git config push.default nothing");
    world
}

/// Pushes what a script makes; what was said where it is refused.
fn refused(world: &World, number: usize, script: &str, env: &[(&str, &str)]) -> Option<String> {
    let script = format!(
        "git checkout -q -f -B w origin/main; git clean -qfd; mkdir -p tests notes src; {script}; git add .; \
         git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/{number}"
    );
    let output = world.sh(&world.path("clone-0"), &script, env);
    (!output.status.success()).then(|| said(&output))
}

#[test]
fn the_bases_allowlists_hold_for_gitleaks_findings_at_their_paths() {
    let world = world(CONFIG, true);
    let (token, other, key, known) = (hex_token(), hex_token(), aws_key(), world.known.clone());
    let env = [("TOKEN", token.as_str()), ("OTHER", other.as_str()), ("KEY", key.as_str()), ("KNOWN", known.as_str())];
    let line = "echo \"api_key = '$TOKEN'\"";
    let all = format!("printf \"[allowlist]\\npaths = ['.*']\\n\" >.gitleaks.toml; {line} >src/a");
    for (number, (refused_by, script)) in [
        (None, format!("{line} >tests/a")),
        (None, format!("{line} >tests/a; cp tests/a tests/b")),
        (None, format!("{line} >notes/a")),
        (None, "echo \"api_key = '$TOKEN' for the docs\" >src/a".to_owned()),
        // Two versions of one path, both allowed.
        (None, format!("{line} >tests/a; git add .; git commit -qm y; echo \"api_key = '$OTHER'\" >tests/a")),
        // Another path, one beside it, another line, a path of which one commit knows better.
        (Some("generic-api-key at src/a:1"), format!("{line} >src/a")),
        (Some("generic-api-key"), format!("{line} >tests/a; cp tests/a src/a")),
        (Some("generic-api-key"), format!("{line} >src/a; git add .; git commit -qm y; git mv src/a tests/a")),
        (Some("generic-api-key at notes/a:2"), format!("(echo; {line}) >notes/a")),
        (Some("generic-api-key at src/ignored:1"), format!("{line} >src/ignored")),
        (Some("generic-api-key at src/a:1"), "echo \"api_key = '$TOKEN' for the docs no more\" >src/a".to_owned()),
        // Those of the pushed commit, alone and with an older one of the same run.
        (Some("generic-api-key at src/a:1"), all.clone()),
        (
            Some("generic-api-key at src/a:1"),
            format!("printf 'src/a:generic-api-key:1\\n' >.gitleaksignore; {line} >src/a"),
        ),
        (
            Some("generic-api-key at src/a:1"),
            format!(
                "printf \"[allowlist]\\npaths = ['.*']\\n\" >.gitleaks.toml; git add .; git commit -qm l; \
                 git push -q origin HEAD:refs/heads/bottle/own; {line} >src/a"
            ),
        ),
        // What the gate's own rules find, and what is the bottle's.
        (Some("aws-access-key-id at tests/a:1"), "echo k = $KEY >tests/a".to_owned()),
        (Some("known-secret:KNOWN"), format!("({line}; echo $KNOWN) >tests/a")),
        (Some("commit message"), format!("{line} >tests/a; git add .; git commit -qm \"api_key = '$TOKEN'\"")),
    ]
    .into_iter()
    .enumerate()
    {
        let said = refused(&world, number, &script, &env);
        match (refused_by, said) {
            (None, said) => assert_eq!(said, None, "{number} {script}\n{}", world.gate_log()),
            (Some(rule), Some(said)) => assert!(said.contains(rule), "{number} {script}: {said}"),
            (Some(_), None) => panic!("{number} {script}: it went through"),
        }
    }
    let log = world.gate_log();
    assert!(log.contains("`extend` is not followed") && log.contains("the key `unknown` is not known"), "{log}");
}

#[test]
fn they_count_only_where_the_manifest_says_so_and_gitleaks_can_go_by_them() {
    let token = hex_token();
    let env = [("TOKEN", token.as_str())];
    for (config, counts, why) in [
        (CONFIG, false, ""),
        ("[allowlist]\npaths = ['(']\n", true, "upstream's allowlists are not applied: gitleaks can't go by them"),
        ("[allowlist]\npaths = ['^tests/'\n", true, "it is not TOML"),
        (&format!("[allowlist]\npaths = ['^tests/']\n#{}\n", "x".repeat(300_000)), true, "larger than 256 KiB"),
    ] {
        let world = world(config, counts);
        let said = refused(&world, 0, "echo \"api_key = '$TOKEN'\" >tests/a", &env).expect("it is refused");
        assert!(said.contains("generic-api-key at tests/a:1"), "{said}");
        assert!(world.gate_log().contains(why), "{}", world.gate_log());
    }
}
