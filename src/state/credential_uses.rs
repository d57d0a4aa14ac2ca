//! Where each credential of a run went: the requests to which pipelock added it, and the pushes that the gate made with it.

use std::path::{Path, PathBuf};

use bottle_plan::plan::{BottlePlan, FORGE_USER, SecretSource};
use bottle_types::record_file::RecordFile;
use bottle_wire::access::{Access, AccessVerdict};
use bottle_wire::push_report::{PushVerdict, PushedRef};
use serde::Serialize;

use super::rows::{RowError, rows, value};

/// A credential, and each of its uses in the order of time.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AuditedCredential {
    pub(crate) name: String,
    /// Where its value came from; none where the plan does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// For what the plan has it.
    #[serde(rename = "for")]
    pub(crate) used_by: Vec<String>,
    pub(crate) uses: Vec<CredentialUse>,
    /// Uses that the record does not have, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unrecorded: Vec<String>,
}

/// One use.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CredentialUse {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    /// `POST api.example.org/v1/things`, `push refs/heads/x to origin`.
    pub(crate) what: String,
    /// The answer's status, or what became of it.
    pub(crate) outcome: String,
}

/// A record whose uses can't be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// There is none.
    #[error("{0} is no run record: it has no metadata.json")]
    NoRecord(PathBuf),
    /// A file of it can't be read whole.
    #[error("{0}; it can't be told where the credentials went")]
    Row(#[from] RowError),
}

/// Reads a record. A line that can't be read is an error: it may be a use.
pub(crate) fn credential_uses(dir: &Path) -> Result<Vec<AuditedCredential>, AuditError> {
    if !dir.join(RecordFile::Metadata).is_file() {
        return Err(AuditError::NoRecord(dir.to_owned()));
    }
    let plan: BottlePlan = value(dir, RecordFile::Plan)?;
    let mut all: Vec<AuditedCredential> = plan
        .secrets
        .iter()
        // Nobody uses it for anything.
        .filter(|secret| !matches!(secret.source, SecretSource::Canary(_)))
        .map(|secret| AuditedCredential {
            name: secret.name.to_string(),
            from: Some(secret.source.to_string()),
            used_by: secret.used_by.clone(),
            uses: vec![],
            unrecorded: unrecorded(&plan, secret.name.as_str(), &secret.used_by),
        })
        .collect();
    for access in rows::<Access>(dir, RecordFile::Egress)? {
        if let Some(name) = &access.credential {
            of(&mut all, name).uses.push(request(&access));
        }
    }
    for push in rows::<PushedRef>(dir, RecordFile::Pushes)? {
        let upstream = plan.policies.gate.upstreams.iter().find(|upstream| upstream.name == push.repo);
        let credential = upstream.and_then(|upstream| upstream.token.as_ref().or(upstream.identity.as_ref()));
        // What was not let through was not pushed by anybody.
        if let (Some(name), PushVerdict::Accepted) = (credential, push.verdict) {
            let (what, outcome) = (format!("push {} to {}", push.r#ref, push.repo), "accepted".to_owned());
            of(&mut all, name.as_str()).uses.push(CredentialUse { time: push.time, what, outcome });
        }
    }
    for credential in &mut all {
        credential.uses.sort_by(|one, other| one.time.cmp(&other.time));
    }
    Ok(all)
}

fn request(access: &Access) -> CredentialUse {
    let port = if access.port == 443 { String::new() } else { format!(":{}", access.port) };
    let outcome = match (access.verdict, &access.reason) {
        (AccessVerdict::Allow, _) => access.status.to_string(),
        (verdict, Some(reason)) => format!("{} ({reason})", word(verdict)),
        (verdict, None) => word(verdict).to_owned(),
    };
    let what = format!("{} {}{port}{}", access.method, access.host, access.path);
    CredentialUse { time: access.time.clone(), what, outcome }
}

fn word(verdict: AccessVerdict) -> &'static str {
    match verdict {
        AccessVerdict::Allow => "allowed",
        AccessVerdict::Deny => "denied",
        AccessVerdict::Block => "stopped on its way",
        AccessVerdict::Error => "failed on its way",
        AccessVerdict::Replay => "replayed",
    }
}

/// The credential of this name; one that the plan does not have came with an approved policy.
fn of<'a>(all: &'a mut Vec<AuditedCredential>, name: &str) -> &'a mut AuditedCredential {
    let at = all.iter().position(|credential| credential.name == name).unwrap_or_else(|| {
        let (used_by, uses, unrecorded) = (vec![], vec![], vec![]);
        all.push(AuditedCredential { name: name.to_owned(), from: None, used_by, uses, unrecorded });
        all.len() - 1
    });
    &mut all[at]
}

/// What a record does not have of a credential.
fn unrecorded(plan: &BottlePlan, name: &str, used_by: &[String]) -> Vec<String> {
    let is_of = |upstream: &&bottle_policy::gate::Upstream| {
        [&upstream.token, &upstream.identity].into_iter().flatten().any(|credential| credential.as_str() == name)
    };
    let upstreams = plan.policies.gate.upstreams.iter().filter(is_of);
    let mut not_counted: Vec<String> = upstreams
        .map(|upstream| format!("each fetch from {} and each question to it uses it too", upstream.name))
        .collect();
    if used_by.iter().any(|user| user == FORGE_USER) {
        not_counted
            .push("the runner's own calls to the forge use it too; outputs.jsonl has what they wrote".to_owned());
    }
    not_counted
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A record with these lines in place of its own.
    fn record(egress: &str, gate: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
        for file in [RecordFile::Metadata, RecordFile::Plan] {
            fs::copy(from.join(file), dir.path().join(file)).expect("a file");
        }
        fs::write(dir.path().join(RecordFile::Egress), egress).expect("a file");
        fs::write(dir.path().join(RecordFile::Pushes), gate).expect("a file");
        dir
    }

    fn access(time: &str, rest: &str) -> String {
        format!(
            r#"{{"time":"{time}","id":"1","door":"pipelock","method":"GET","host":"api.example.org","port":443,"path":"/a","bytes_out":0,"bytes_in":0,"ms":1,{rest}}}"#
        )
    }

    fn push(verdict: &str) -> String {
        let (old, new) = ("0".repeat(40), "1".repeat(40));
        format!(
            r#"{{"time":"2026-11-28T10:00:03Z","repo":"origin","ref":"refs/heads/x","old":"{old}","new":"{new}","commits":1,"objects":3,"bytes":9,"verdict":"{verdict}","ms":{{"total":1,"judge":0,"scan":0,"forward":0}}}}"#
        )
    }

    #[test]
    fn each_use_is_told_with_its_credential() {
        let egress = [
            access("2026-11-28T10:00:02.000Z", r#""verdict":"allow","status":200,"credential":"BOTTLE_TEST_TOKEN""#),
            access(
                "2026-11-28T10:00:01.000Z",
                r#""verdict":"block","reason":"dlp","status":403,"credential":"BOTTLE_TEST_TOKEN""#,
            ),
            access("2026-11-28T10:00:01.500Z", r#""verdict":"allow","status":204"#),
            access("2026-11-28T10:00:04.000Z", r#""verdict":"allow","status":201,"credential":"LATER""#),
        ];
        let gate = ["accepted", "refused", "held", "would-push"].map(push);
        let dir = record(&egress.join("\n"), &gate.join("\n"));
        let all = credential_uses(dir.path()).expect("a record");
        let told: Vec<String> = all
            .iter()
            .flat_map(|one| one.uses.iter().map(move |used| format!("{}: {}: {}", one.name, used.what, used.outcome)))
            .collect();
        assert_eq!(
            told,
            [
                "BOTTLE_TEST_TOKEN: GET api.example.org/a: stopped on its way (dlp)",
                "BOTTLE_TEST_TOKEN: GET api.example.org/a: 200",
                "BOTTLE_GIT_ORIGIN_IDENTITY: push refs/heads/x to origin: accepted",
                "LATER: GET api.example.org/a: 201",
            ]
        );
        assert_eq!(all[0].from.as_deref(), Some("$BOTTLE_TEST_TOKEN"));
        assert_eq!(all[1].unrecorded, ["each fetch from origin and each question to it uses it too"]);
        assert_eq!((all[2].from.as_deref(), all[2].used_by.len()), (None, 0));
    }

    #[test]
    fn what_may_be_a_use_is_never_left_out() {
        let good = access("2026-11-28T10:00:02.000Z", r#""verdict":"allow","status":200"#);
        let cut = &good[..good.len() - 9];
        for (egress, gate, says) in [
            (format!("{good}\n{cut}"), String::new(), "egress.jsonl, line 2, can't be read"),
            (format!("{good}\n\n"), String::new(), "egress.jsonl, line 2, can't be read"),
            (good.clone(), "{}".to_owned(), "gate.jsonl, line 1, can't be read"),
        ] {
            let error = credential_uses(record(&egress, &gate).path()).expect_err("an error").to_string();
            assert!(error.contains(says), "{error}");
        }
        let dir = record(&good, "");
        fs::remove_file(dir.path().join(RecordFile::Egress)).expect("removed");
        let error = credential_uses(dir.path()).expect_err("an error").to_string();
        assert!(error.contains("failed to read egress.jsonl"), "{error}");
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(credential_uses(empty.path()), Err(AuditError::NoRecord(_))));
    }
}
