//! Findings that the manifest exempts, and what the exemption does not reach.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::world::{World, aws_key, hex_token, random_hex, said};

/// A world whose policy exempts key ids below `tests/`, and one token in `docs`.
fn world(token: &str) -> World {
    let hash = hex::encode(Sha256::digest(token));
    // That rule of gitleaks takes the key for a part of what it finds.
    let entry = hex::encode(Sha256::digest(format!("a: {token}")));
    World::with(
        |_| {},
        |policy| {
            format!(
                "{policy}exemptions:\n- {{ rule: aws-access-token, path: 'tests/**', reason: samples }}\n\
                 - {{ rule: aws-access-key-id, path: 'tests/**', reason: samples }}\n\
                 - {{ rule: generic-api-key, path: 'notes/**', reason: words }}\n\
                 - {{ rule: generic-api-key, path: 'docs/*', sha256: {hash}, reason: a sample }}\n\
                 - {{ rule: kubernetes-secret-yaml, path: 's.yaml', sha256: {entry}, reason: a sample }}\n"
            )
        },
    )
}

#[test]
fn an_exemption_holds_for_its_rule_its_paths_and_its_bytes() {
    let token = hex_token();
    let world = world(&token);
    let clone = world.clone_origin();
    world.ok(&clone, "git config push.default nothing; mkdir tests docs src");
    let (key, other, known) = (aws_key(), hex_token(), world.known.clone());
    let known = known.as_str();
    let secret = STANDARD.encode(hex::decode(random_hex(60)).expect("hex"));
    let env = [
        ("KEY", key.as_str()),
        ("TOKEN", token.as_str()),
        ("OTHER", other.as_str()),
        ("SECRET", secret.as_str()),
        ("KNOWN", known),
    ];
    let list = "printf 'kind: Secret\\ndata:\\n  a: %s\\n' $TOKEN >s.yaml";
    for (number, (refused_by, script)) in [
        (None, "echo k = $KEY >tests/a; cp tests/a tests/b"),
        (None, "echo \"api_key = '$TOKEN'\" >docs/a"),
        (None, list),
        // A path that the glob does not match; one that does beside one that does not.
        (Some("aws-access-token"), "echo k = $KEY >src/a"),
        (Some("aws-access-token"), "echo k = $KEY >tests/a; cp tests/a src/a"),
        // Moved below the glob by a later commit.
        (Some("aws-access-token"), "echo k = $KEY >src/a; git add .; git commit -qm x; git mv src/a tests/a"),
        // No path at all.
        (Some("aws-access-token"), "git commit -q --allow-empty -m \"see tests/a: $KEY\""),
        (Some("aws-access-token"), "echo x >\"tests/$KEY\""),
        // Another's hash, and another rule.
        (Some("generic-api-key"), "echo \"api_key = '$OTHER'\" >docs/a"),
        (Some("generic-api-key"), "echo \"api_key = '$TOKEN'\" >tests/a"),
        // What another rule takes for more than noise.
        (Some("aws-secret-access-key"), "echo \"aws_secret_access_key = '$SECRET'\" >notes/a"),
        // What stands behind what is exempt.
        (Some("kubernetes-secret-yaml"), &format!("{list}; echo \"  b: $OTHER\" >>s.yaml")),
        (Some("known-secret:KNOWN"), "echo k = $KEY $KNOWN >tests/a"),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!(
            "git checkout -q -f -B w origin/main; mkdir -p tests docs notes src; {script}; git add .; git commit -q --allow-empty -m x\n\
             git push origin HEAD:refs/heads/bottle/{number}"
        );
        let output = world.sh(&clone, &script, &env);
        let text = said(&output);
        match refused_by {
            None => assert!(output.status.success(), "{number} {script}: {text}"),
            Some(rule) => {
                assert!(!output.status.success(), "{number} {script}: it went through");
                assert!(text.contains("git-gate: refused") && text.contains(rule), "{script}: {text}");
            }
        }
    }

    // What was let through by an exemption is not upstream's by that.
    let script = "git checkout -q -f -B w origin/main; mkdir -p tests src; echo k = $KEY >tests/a; git add .; git commit -qm x\n\
                  git push -q origin HEAD:refs/heads/bottle/first; cp tests/a src/b; echo >>src/b; git add .; git commit -qm y\n\
                  git push origin HEAD:refs/heads/bottle/first";
    let output = world.sh(&clone, script, &env);
    assert!(!output.status.success());
    assert!(said(&output).contains("first: aws-access-token at src/b:1"), "{}", said(&output));
}

#[test]
fn a_refusal_shows_the_lines_to_paste_and_a_pushed_manifest_does_not_count() {
    let world = World::with(|_| {}, |policy| policy.replace(", \"claude-bottle.yml\"", ""));
    let clone = world.clone_origin();
    let key = aws_key();
    let hash = hex::encode(Sha256::digest(&key));
    let lines = format!("      - {{ rule: aws-access-token, path: \"a[[]1[]].py\", sha256: {hash}, reason: \"…\" }}");
    let script = format!(
        "echo \"k = $KEY\" >'a[1].py'; printf 'version: 1\\nbottles:\\n  b:\\n    gate:\\n      exemptions:\\n%s\\n' '{lines}' \
         >claude-bottle.yml; git add .; git commit -qm x; git push origin HEAD:refs/heads/bottle/x"
    );
    let output = world.sh(&clone, &script, &[("KEY", &key)]);
    let text = said(&output);
    assert!(!output.status.success());
    assert!(text.contains("    exemptions:") && text.contains("a pushed one does not count"), "{text}");
    assert!(text.contains(&format!("sha256: {hash}, reason: ")), "{text}");
    assert!(!text.contains(&key), "{text}");
}

#[test]
fn a_known_secret_is_a_finding_wherever_upstream_has_it() {
    let world = World::new();
    let seed = format!(
        "git clone -q origin.git w && cd w && echo '{}' >old && git add . && git commit -qm old && git push -q",
        world.known
    );
    world.ok(&world.path("upstream"), &seed);
    let clone = world.clone_origin();
    let output = world.sh(
        &clone,
        "echo new >>old; git add .; git commit -qm new; git push origin HEAD:refs/heads/bottle/x",
        &[],
    );
    assert!(!output.status.success());
    assert!(said(&output).contains("known-secret:KNOWN at old:1"), "{}", said(&output));
    assert!(!said(&output).contains("exemptions"), "{}", said(&output));
}
