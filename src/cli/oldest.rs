//! The oldest open issue with a label that no run has taken up, as the task of a job that no event asks for.
//!
//! Always: whoever gave the label last asks, and must be allowed to as for the event of a label; the text must be the one that the
//! label was given for. What can't be told counts as no, and the issue is passed over.

use std::collections::{BTreeMap, BTreeSet};

use bottle_plan::facts::{Ci, HostFacts};
use bottle_plan::manifest::{Manifest, Permission, Triggers};
use bottle_plan::prose;
use bottle_plan::task::{Actor, Source, Task, Thread, thread_name};

use super::task::JobForge;
use super::{asked, failed};
use crate::exit::Failure;
use crate::forge::{Author, Forge, LabelledIssue};
use crate::host::Environment;
use crate::permission::{Denial, EventActor, may_ask};
use crate::run::first_of;
use crate::thread::{self, Ask};

/// The issue that was chosen.
pub(super) struct Choice {
    pub(super) number: u64,
    pub(super) task: Task,
    /// A line for each older issue that was passed over because of who gave the label, or of its text.
    pub(super) notes: Vec<String>,
}

/// Chooses an issue; or says in one line why there is none. Those in `passed` were taken up by other runs meanwhile.
pub(super) async fn choose(
    label: &str,
    manifest: &Manifest,
    facts: &HostFacts,
    environment: &Environment,
    forge: &JobForge,
    passed: &BTreeSet<u64>,
) -> Result<Result<Choice, String>, Failure> {
    let label = checked(label)?;
    let (ci, forge) = asked::job_forge("--oldest-issue", facts, forge)?;
    asked::check_sender(&manifest.triggers, environment, forge).await?;
    let list = forge.oldest_issues(label).await.map_err(failed)?;
    let shown = prose::name(label, 60);
    if list.numbers.is_empty() && !list.more {
        return Ok(Err(format!("no open issue has the label `{shown}`")));
    }
    let mut judge = Judge { label, triggers: &manifest.triggers, forge, ci, known: BTreeMap::new() };
    let (mut notes, mut taken) = (vec![], vec![]);
    for number in list.numbers {
        if passed.contains(&number) {
            taken.push(format!("#{number}"));
            continue;
        }
        match judge.judge(number).await? {
            Verdict::Gone => {}
            Verdict::Taken => taken.push(format!("#{number}")),
            Verdict::No(why) => notes.push(format!("issue #{number} is passed over: {why}")),
            Verdict::Yes(found, asker) => {
                let repository = asked::repository(ci, forge).await?;
                return Ok(Ok(Choice { number, task: task(*found, asker, label, manifest, repository), notes }));
            }
        }
    }
    let mut parts = vec![format!("no open issue with the label `{shown}` is left")];
    if !taken.is_empty() {
        parts.push(format!("runs have taken up {}", first_of(&taken, ", ")));
    }
    if !notes.is_empty() {
        parts.push(first_of(&notes, "; "));
    }
    if list.more {
        parts.push("newer ones were not looked at: close the old ones, or take their label away".to_owned());
    }
    Ok(Err(parts.join("; ")))
}

/// A label that a forge can be asked for: between its lists' commas a name can't have one.
fn checked(label: &str) -> Result<&str, Failure> {
    let why = match label {
        _ if label.trim().is_empty() => "is empty",
        _ if label.contains(',') => "has a comma: forges take it for two",
        _ if label.chars().any(char::is_control) => "has a character that no label has",
        _ => return Ok(label.trim()),
    };
    Err(Failure::input(format_args!("the label of --oldest-issue {why}"))
        .hint("give the name of one label: --oldest-issue LABEL"))
}

/// What is found out about an issue.
enum Verdict {
    /// It is closed, or has the label no longer.
    Gone,
    /// A run has taken it up.
    Taken,
    No(String),
    Yes(Box<LabelledIssue>, Actor),
}

/// Looks at one issue after the other, and asks about each user once.
struct Judge<'a> {
    label: &'a str,
    triggers: &'a Triggers,
    forge: &'a dyn Forge,
    ci: &'a Ci,
    /// Why a user may not ask; none: may.
    known: BTreeMap<(String, u64), Option<String>>,
}

impl Judge<'_> {
    async fn judge(&mut self, number: u64) -> Result<Verdict, Failure> {
        let found = match self.forge.labelled_issue(number, self.label).await {
            Ok(found) => found,
            Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(Verdict::Gone),
            Err(error) => return Err(failed(error)),
        };
        if !found.issue.is_open || found.issue.is_pull_request || !found.has_label {
            return Ok(Verdict::Gone);
        }
        let Some(given) = found.given.clone() else {
            return Ok(Verdict::No(
                "who gave it the label can't be told; take the label away and give it again".into(),
            ));
        };
        let asker = match self.may(&given.by).await? {
            Ok(asker) => asker,
            Err(why) => return Ok(Verdict::No(format!("{why} (who gave the label)"))),
        };
        // Whoever can change a text is its author, or may write here: those may ask themselves.
        let are_editors_askers = self.triggers.who.permission <= Permission::Write;
        let is_trusted = found.is_as_it_was() || (are_editors_askers && self.may(&found.issue.author).await?.is_ok());
        if !is_trusted {
            let why = "it was changed after it got the label, or may have been, and its author may not ask";
            return Ok(Verdict::No(format!("{why}; read it, and ask for it in a comment")));
        }
        let ask = Ask::choice(&self.ci.run_id, &given.at);
        if thread::taken_up(self.forge, number, &ask).await.map_err(failed)?.is_some() {
            return Ok(Verdict::Taken);
        }
        Ok(Verdict::Yes(Box::new(found), asker))
    }

    /// The user as somebody who asks; or why that may not be.
    async fn may(&mut self, user: &Author) -> Result<Result<Actor, String>, Failure> {
        let who = &self.triggers.who;
        let login = prose::name(&user.login, 60);
        let Some(id) = u64::try_from(user.id).ok().filter(|id| *id > 0) else {
            return Ok(Err(format!("{login} (id {}) is no user that the forge knows", user.id)));
        };
        if user.is_bot && !who.bots.contains(&id) {
            return Ok(Err(format!("{login} (id {id}) is not a person, and `triggers.who.bots` does not list it")));
        }
        let actor = Actor { login: user.login.clone(), id, association: None };
        let key = (user.login.clone(), id);
        let why = match self.known.get(&key) {
            Some(why) => why.clone(),
            None => {
                let asker = EventActor { login: user.login.clone(), id };
                let why = match may_ask(self.forge, who, &asker, None).await {
                    Ok(()) => None,
                    Err(denial @ Denial::CannotCheck(_)) => return Err(denial.into_failure()),
                    Err(
                        denial @ (Denial::BotOnFork { .. }
                        | Denial::UnknownUser { .. }
                        | Denial::OtherUser { .. }
                        | Denial::BelowPermission { .. }),
                    ) => Some(denial.to_string()),
                };
                self.known.entry(key).or_insert(why).clone()
            }
        };
        Ok(why.map_or(Ok(actor), Err))
    }
}

/// The issue as a task, as for the event of its label.
fn task(
    found: LabelledIssue,
    asker: Actor,
    label: &str,
    manifest: &Manifest,
    repository: bottle_plan::task::Repository,
) -> Task {
    let issue = found.issue;
    let author = Some(issue.author.login).filter(|login| !login.is_empty());
    Task {
        source: Source::Issue(Thread {
            number: issue.number,
            title: issue.title,
            body: issue.body,
            author,
            url: issue.url,
        }),
        agent: manifest.triggers.agent_of(label).cloned(),
        asked_by: Some(asker),
        asked_at: found.given.map(|given| given.at),
        repository: Some(repository),
        ..Task::text("")
    }
}

/// The line for an issue that another run took up before this one had it.
pub(super) fn left(number: u64, why: &str) -> String {
    format!("{}: {why}; the next one is looked for", thread_name(false, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_name() {
        for label in
            ["claude", "good first issue", "größe", "kind/bug", "a&b=c#?%", "\u{1f916} bot", "\"x\"", " claude "]
        {
            assert_eq!(checked(label).expect("a label"), label.trim());
        }
        for (label, why) in [("", "is empty"), (" \t", "is empty"), ("a,b", "has a comma"), ("a\nb", "has a character")]
        {
            let failure = checked(label).expect_err("no label");
            assert!(failure.what.contains(why), "{label:?}: {failure}");
        }
    }
}
