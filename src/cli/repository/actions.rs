//! GitHub's switches for Actions, and the workflows that use the action.

use bottle_plan::prose;
use bottle_types::git::ObjectId;

use super::{Subject, unknown};
use crate::forge::ForgeError;
use crate::survey::Survey;

/// More workflows than this are not read.
const MAX_WORKFLOWS: usize = 40;
/// The action, as workflows name it before a version.
const ACTION: &str = "claude-bottle/run@";

impl Subject {
    /// GitHub's switches for Actions; whether an action has to be named by a full commit.
    pub(super) async fn actions(&self, survey: &mut Survey) -> bool {
        let page = format!("{}/settings/actions", self.web);
        let actions = match self.settings.actions().await {
            Ok(actions) => actions,
            Err(error) => {
                unknown(&format!("whether Actions are on, which {page} shows"), &error, survey);
                return false;
            }
        };
        if !actions.enabled {
            survey.missing(format!(
                "Actions are off for the repository, so that no workflow starts: choose \"Allow all actions\" at {page}"
            ));
            return false;
        }
        match actions.allowed_actions.as_deref() {
            Some("local_only") => survey.missing(format!(
                "only actions of the repository's own owner may run, so that the workflows' `claude-bottle/run` and `actions/checkout` \
                 may not: allow them at {page}"
            )),
            Some("selected") => survey.unknown(format!(
                "only selected actions may run: `claude-bottle/run@*`, `actions/checkout@*` and `actions/upload-artifact@*` have to be \
                 among them at {page}"
            )),
            _ => survey.there("Actions are on"),
        }
        match self.settings.jobs_may_open_pull_requests().await {
            Ok(true) => survey.there("jobs may open pull requests"),
            Ok(false) => survey.missing(format!(
                "jobs may not open pull requests, so that a run can only push its branch: enable \"Allow GitHub Actions to create and \
                 approve pull requests\" at {page}"
            )),
            Err(error) => unknown(&format!("whether jobs may open pull requests, which {page} shows"), &error, survey),
        }
        actions.sha_pinning_required
    }

    /// The workflows of the default branch that use the action.
    pub(super) async fn workflows(&self, branch: &str, pinned: bool, survey: &mut Survey) {
        let found = match self.uses_of_the_action().await {
            Ok(found) => found,
            Err(error) => return unknown("whether a workflow starts runs", &error, survey),
        };
        let names: Vec<&str> = found.workflows.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            let rest = if found.whole { "" } else { ", as far as they were read" };
            return survey.missing(format!(
                "no workflow in {} of `{branch}` uses `claude-bottle/run`{rest}, so that nothing starts a run: commit and push those that \
                 `bottle-runner init` writes",
                found.dir
            ));
        }
        survey.there(format!("workflows on `{branch}`: {}", names.join(", ")));
        let by_name = found.workflows.iter().filter(|(_, text)| !names_commits(text));
        for (name, _) in by_name.filter(|_| pinned) {
            survey.missing(format!(
                "the repository takes actions by a full commit alone, and {name} names `claude-bottle/run` by a tag: write a commit's 40 \
                 digits in its place, or turn \"Require actions to be pinned to a full-length commit SHA\" off at {}/settings/actions",
                self.web
            ));
        }
    }

    /// Reads workflows until two use the action: `init` writes two.
    async fn uses_of_the_action(&self) -> Result<FoundWorkflows, ForgeError> {
        let mut found = FoundWorkflows { dir: self.forge.dir(), workflows: vec![], whole: true };
        let mut names = None;
        for dir in self.forge.workflow_dirs() {
            names = self.settings.files_in(dir).await?;
            if names.is_some() {
                found.dir = dir;
                break;
            }
        }
        let mut names = names.unwrap_or_default();
        names.retain(|name| name.ends_with(".yml") || name.ends_with(".yaml"));
        names.sort_by_key(|name| !name.contains("claude"));
        found.whole = names.len() <= MAX_WORKFLOWS;
        for name in names.into_iter().take(MAX_WORKFLOWS) {
            let text = self.settings.file(&format!("{}/{name}", found.dir)).await?.unwrap_or_default();
            if text.contains(ACTION) || text.contains("bottle-runner") {
                found.workflows.push((prose::name(&name, 100), text));
            }
            if found.workflows.len() == 2 {
                break;
            }
        }
        Ok(found)
    }
}

/// The workflows that use the action.
struct FoundWorkflows {
    dir: &'static str,
    /// Name and text.
    workflows: Vec<(String, String)>,
    /// False: there are more workflows than were read.
    whole: bool,
}

/// Whether each use of the action is by a commit.
fn names_commits(workflow: &str) -> bool {
    let version = |rest: &str| rest.split_whitespace().next().unwrap_or_default().to_owned();
    workflow.split(ACTION).skip(1).all(|rest| ObjectId::parse(&version(rest)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_pinned_by_forty_digits_alone() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(names_commits(&format!("- uses: claude-bottle/run@{commit} # v1\n")));
        assert!(!names_commits("- uses: claude-bottle/run@v1\n"));
        assert!(!names_commits(&format!("- uses: claude-bottle/run@{commit}\n- uses: claude-bottle/run@v1\n")));
    }
}
