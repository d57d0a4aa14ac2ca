//! The deploy key of a run: registered at the job's forge before the bottle starts, and removed when the bottle is gone.
//!
//! Always: what is to be removed is written into the record before the forge is asked, so that a run that is killed in between leaves
//! word of it; and a key is removed only where its title and its public half are those of the record: nobody else's is.

use std::path::Path;
use std::time::Duration;

use bottle_plan::facts::{Ci, ForgeKind};
use bottle_plan::plan::{BottlePlan, SecretSource};
use bottle_policy::gate::Upstream;
use bottle_types::record_file::RecordFile;
use serde::{Deserialize, Serialize};

use super::claimed::Claimed;
use super::{RunContext, case};
use crate::exit::Failure;
use crate::forge::{Forge, ForgeError};
use crate::secrets::public_line;

/// A forge that does not answer must not keep a run that has ended.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// A deploy key that may be at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegisteredKey {
    forge: ForgeKind,
    server_url: String,
    repository: String,
    title: String,
    /// As `ssh-ed25519 AAAA…`.
    public_key: String,
}

impl RegisteredKey {
    /// Reads what a record says of it; none: the run has none, or has removed it.
    pub(crate) fn read(record: &Path) -> Result<Option<Self>, Failure> {
        let path = record.join(RecordFile::DeployKey);
        let failed = |why: String| Failure::machine(format_args!("failed to read {}: {why}", path.display()));
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string()))
    }

    /// The server of its forge.
    pub(crate) fn server_url(&self) -> &str {
        self.server_url.trim_end_matches('/')
    }

    /// The forge's kind and the repository, as a job there has them.
    pub(crate) fn ci(&self) -> Ci {
        Ci {
            forge: self.forge,
            server_url: self.server_url.clone(),
            repository: self.repository.clone(),
            run_url: String::new(),
            run_id: String::new(),
            started_for: None,
            base: None,
        }
    }

    /// Removes it at the forge, if it is there, and then what the record says of it.
    pub(crate) async fn remove(&self, forge: &dyn Forge, record: &Path) -> Result<(), Failure> {
        let removed = tokio::time::timeout(REMOVAL_TIMEOUT, self.remove_at(forge)).await;
        let removed =
            removed.unwrap_or_else(|_| Err(format!("the forge took longer than {} s", REMOVAL_TIMEOUT.as_secs())));
        removed.map_err(|why| {
            Failure::machine(format_args!("the deploy key `{}` may be left at {}: {why}", self.title, self.repository))
                .hint("`bottle-runner cleanup` removes it, with the forge's token in its environment")
        })?;
        forget(record)
    }

    async fn remove_at(&self, forge: &dyn Forge) -> Result<(), String> {
        let words = |error: ForgeError| format!("{error}; {}", error.hint());
        for id in self.ids_at(forge).await.map_err(words)? {
            if let Err(error) = forge.delete_deploy_key(id).await {
                // An answer may be lost, and the second try says that there is none; so does a forge whose token may not.
                let is_gone = error.status() == Some(404) && self.ids_at(forge).await.map_err(words)?.is_empty();
                if !is_gone {
                    return Err(words(error));
                }
            }
        }
        Ok(())
    }

    async fn ids_at(&self, forge: &dyn Forge) -> Result<Vec<u64>, ForgeError> {
        let mut keys = forge.deploy_keys().await?;
        keys.retain(|key| key.title == self.title && is_same(&key.key, &self.public_key));
        Ok(keys.into_iter().map(|key| key.id).collect())
    }
}

/// Whether two lines have the same key; a comment behind it is none of it.
fn is_same(one: &str, other: &str) -> bool {
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    key(one) == key(other)
}

fn forget(record: &Path) -> Result<(), Failure> {
    let path = record.join(RecordFile::DeployKey);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::machine(format_args!("failed to remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The upstream for which the plan has a deploy key.
fn upstream(plan: &BottlePlan) -> Option<&Upstream> {
    let secret = plan.secrets.iter().find(|secret| secret.source == SecretSource::DeployKey)?;
    plan.policies.gate.upstreams.iter().find(|upstream| upstream.identity.as_ref() == Some(&secret.name))
}

/// Registers the run's deploy key, if it has one. It may push where anything may be pushed.
pub(super) async fn register(claimed: &Claimed<'_>) -> Result<(), Failure> {
    let RunContext { inputs, plan, events, .. } = claimed.context();
    let Some(upstream) = upstream(plan) else { return Ok(()) };
    let other_way = "give the upstream `identity_file` in place of `deploy_key`";
    if plan.dry_run {
        let why = "a dry run changes nothing at the forge, and can register no deploy key there";
        return Err(Failure::input(why).hint(other_way));
    }
    let (Some(forge), Some(ci)) = (&inputs.forge, &plan.ci) else {
        return Err(Failure::input("a deploy key is registered at a job's forge, and this is no job").hint(other_way));
    };
    let value = upstream.identity.as_ref().and_then(|name| inputs.secrets.value(name));
    let public_key = value.and_then(|(value, _)| public_line(value.expose()));
    let public_key = public_key.ok_or_else(|| Failure::machine("the run has made no deploy key"))?;
    let key = RegisteredKey {
        forge: ci.forge,
        server_url: ci.server_url.clone(),
        repository: ci.repository.clone(),
        title: format!("claude-bottle run {}", plan.slug),
        public_key,
    };
    let json = serde_json::to_vec(&key).map_err(Failure::machine)?;
    let record = claimed.record();
    record.write(RecordFile::DeployKey, &json)?;
    let read_only = upstream.push.refs.is_empty();
    case(events, "deploy-key", async {
        let added = forge.add_deploy_key(&key.title, &key.public_key, read_only).await;
        added.map_err(|error| {
            let failure = Failure::machine(&error).hint(error.hint());
            match error.may_be_done() {
                // It is looked for at the end.
                true => failure,
                false => forget(record.dir()).err().unwrap_or(failure),
            }
        })
    })
    .await?;
    let may = if read_only { "read" } else { "read and push to" };
    events.note(format!("registered the deploy key `{}`, which may {may} {}", key.title, key.repository));
    Ok(())
}

/// Removes the run's deploy key, if there may be one.
pub(super) async fn remove(claimed: &Claimed<'_>) -> Result<(), Failure> {
    let RunContext { inputs, events, .. } = claimed.context();
    let dir = claimed.record().dir();
    let Some(key) = RegisteredKey::read(dir)? else { return Ok(()) };
    let forge =
        inputs.forge.as_ref().ok_or_else(|| Failure::machine("there is no forge to remove the deploy key from"))?;
    key.remove(forge.as_ref(), dir).await?;
    events.note(format!("removed the deploy key `{}`", key.title));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::forge::testing::*;

    const OURS: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDX5nMLIB9RkFk8mzuBQmTz4Mo2uSqEZmbJp7xqYkz9D";
    const TITLE: &str = "claude-bottle run issue-7-1a2b3c";

    fn registered() -> RegisteredKey {
        RegisteredKey {
            forge: ForgeKind::Gitea,
            server_url: "https://git.bottle.test".to_owned(),
            repository: "octo-org/textstats".to_owned(),
            title: TITLE.to_owned(),
            public_key: OURS.to_owned(),
        }
    }

    /// A record that says so.
    fn record() -> TempDir {
        let dir = TempDir::new().expect("a directory");
        let json = serde_json::to_vec(&registered()).expect("JSON");
        std::fs::write(dir.path().join(RecordFile::DeployKey), json).expect("a file");
        dir
    }

    #[tokio::test]
    async fn a_key_is_registered_and_removed_and_nobody_else_s_is() {
        for kind in BOTH {
            // Those of others: one of the same name, one of another run, and more than a page of them.
            let mut keys = vec![
                json!({"id": 1, "title": TITLE, "key": OTHER, "read_only": true}),
                json!({"id": 2, "title": "claude-bottle run issue-7-other", "key": format!("{OTHER}x"), "read_only": true}),
            ];
            keys.extend((3..130).map(
                |id| json!({"id": id, "title": format!("k{id}"), "key": format!("{OTHER}{id}"), "read_only": true}),
            ));
            let double = Double::start(kind, json!({"deploy_keys": keys, "next": 1000, "shared_titles": true}));
            let forge = forge(&double);
            forge.add_deploy_key(TITLE, OURS, false).await.expect("registered");
            let there = forge.deploy_keys().await.expect("keys");
            assert_eq!(there.len(), keys.len() + 1, "{kind}");
            let record = record();
            let key = RegisteredKey::read(record.path()).expect("readable").expect("a key");
            key.remove(forge.as_ref(), record.path()).await.expect("removed");
            assert_eq!(double.state()["deploy_keys"], json!(keys), "{kind}");
            assert_eq!(RegisteredKey::read(record.path()).expect("readable"), None);
            // It is gone already.
            key.remove(forge.as_ref(), record.path()).await.expect("nothing to remove");
            double.assert_valid();
            let added = double.log().into_iter().find(|line| line["method"] == "POST").expect("a key");
            assert_eq!(added["body"], json!({"title": TITLE, "key": OURS, "read_only": false}));
            let writes = double.writes();
            assert_eq!(writes.iter().filter(|write| write.starts_with("DELETE")).count(), 1, "{writes:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_one_sentence_and_what_may_be_there_is_kept_in_the_record() {
        let fault = |status: u16, message: &str| json!({"method": "POST", "path": "/keys$", "status": status, "body": {"message": message}});
        for kind in BOTH {
            let faults = [fault(403, "Resource not accessible by integration"), fault(422, "Deploy keys are disabled")];
            let double = Double::start(kind, json!({"faults": faults}));
            let forge = forge(&double);
            for (says, hint) in [
                ("failed to register the deploy key: ", "the token may not: it needs "),
                ("failed to register the deploy key: ", "its words say which part"),
            ] {
                let error = forge.add_deploy_key(TITLE, OURS, false).await.expect_err("a refusal");
                let text = told(&error);
                assert!(text.starts_with(says) && text.contains(hint) && text.lines().count() == 1, "{kind}: {text}");
                assert!(!error.may_be_done());
            }
            double.say(&json!({"fault": {"method": "GET", "path": "/keys$", "status": 403}}));
            let record = record();
            let left = registered().remove(forge.as_ref(), record.path()).await.expect_err("a refusal");
            let says = format!(
                "the deploy key `{TITLE}` may be left at octo-org/textstats: failed to look for the deploy key"
            );
            assert!(left.to_string().starts_with(&says) && left.to_string().lines().count() == 1, "{left}");
            assert!(RegisteredKey::read(record.path()).expect("readable").is_some(), "`cleanup` has to find it");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_gone_is_removed_and_one_that_is_only_said_to_be_is_not() {
        let key = json!({"id": 7, "title": TITLE, "key": format!("{OURS} comment"), "read_only": false});
        for (kind, drop) in [("github", true), ("gitea", true), ("github", false), ("gitea", false)] {
            let how = if drop { json!({"drop": "after"}) } else { json!({"status": 404}) };
            let mut fault = json!({"method": "DELETE", "path": "/keys/7$"});
            fault.as_object_mut().expect("an object").extend(how.as_object().expect("an object").clone());
            let double = Double::start(kind, json!({"deploy_keys": [key], "faults": [fault]}));
            let record = record();
            let removed = registered().remove(forge(&double).as_ref(), record.path()).await;
            assert_eq!(removed.is_ok(), drop, "{kind}: {removed:?}");
            assert_eq!(RegisteredKey::read(record.path()).expect("readable").is_none(), drop, "{kind}");
        }
    }

    #[test]
    fn a_record_that_can_t_be_read_is_an_error() {
        let record = record();
        std::fs::write(record.path().join(RecordFile::DeployKey), "{}").expect("a file");
        assert!(RegisteredKey::read(record.path()).is_err());
    }
}
