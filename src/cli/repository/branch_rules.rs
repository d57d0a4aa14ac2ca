//! The rules for branches, as far as one refuses a run's.

use bottle_plan::prose;
use bottle_policy::gate::PushRules;
use bottle_policy::gate::refs::RefRules;

use super::{Subject, unknown};
use crate::forge::settings::BranchProtection;
use crate::survey::Survey;

/// A branch as a run names its own.
const RUN_BRANCH: &str = "bottle/issue-1-example";
/// GitHub's rules that refuse a new branch whose commits have no checks and no signature yet.
const REFUSING_RULES: [&str; 8] = [
    "creation",
    "update",
    "pull_request",
    "required_signatures",
    "required_status_checks",
    "required_deployments",
    "workflows",
    "merge_queue",
];

impl Subject {
    /// GitHub's rules for a run's branch.
    pub(super) async fn rules(&self, survey: &mut Survey) {
        let rules = match self.settings.rules_of(RUN_BRANCH).await {
            Ok(rules) => rules,
            Err(error) => return unknown("whether a rule refuses a run's branch", &error, survey),
        };
        let refusing: Vec<&str> =
            REFUSING_RULES.into_iter().filter(|kind| rules.iter().any(|rule| rule == kind)).collect();
        let page = format!("{}/settings/rules", self.web);
        if !refusing.is_empty() {
            survey.missing(format!(
                "a rule refuses branches such as `{RUN_BRANCH}` ({}), so that a run can't push: exclude `bottle/**` from it at {page}",
                refusing.join(", ")
            ));
        } else if rules
            .iter()
            .any(|rule| rule.ends_with("_pattern") || rule.starts_with("file_") || rule.starts_with("max_"))
        {
            survey.unknown(format!(
                "a rule looks at the names, messages or files of what is pushed to `bottle/**`, and may refuse a run's: see {page}"
            ));
        } else {
            survey.there("no rule refuses a run's branch");
        }
    }

    /// Gitea's rules for a run's branch: the first that fits is the one that counts.
    pub(super) async fn protections(&self, login: Option<&str>, survey: &mut Survey) {
        let rules = match self.settings.protections().await {
            Ok(rules) => rules,
            Err(error) => return unknown("whether a rule refuses a run's branch", &error, survey),
        };
        let page = format!("{}/settings/branches", self.web);
        let Some(rule) = rules.iter().find(|rule| fits(&rule.rule_name)) else {
            return survey.there("no rule refuses a run's branch");
        };
        let name = prose::name(&rule.rule_name, 100);
        match refusal(rule) {
            Some(why) => survey.missing(format!(
                "the rule `{name}` is for branches such as `{RUN_BRANCH}` and {why}, so that a run can't push: see {page}"
            )),
            None if rule.enable_push_whitelist && !login.is_some_and(|login| rule.lists(login)) => survey.unknown(format!(
                "the rule `{name}` is for branches such as `{RUN_BRANCH}`, and only some may push there: the token's user has to be \
                 among them at {page}"
            )),
            None => survey.there(format!("the rule `{name}` lets a run push its branch")),
        }
    }
}

/// Whether a rule's glob is for a run's branch. Gitea's `*` stays within one part of a name, as the gate's does.
fn fits(glob: &str) -> bool {
    let rules = PushRules { refs: vec![format!("refs/heads/{glob}")], ..PushRules::default() };
    // A glob that can't be read is one that a person has to look at.
    RefRules::new(&rules).map_or(true, |rules| rules.judge(&format!("refs/heads/{RUN_BRANCH}")).is_ok())
}

/// Why a rule lets no run push, where that is sure.
fn refusal(rule: &BranchProtection) -> Option<&'static str> {
    match rule {
        BranchProtection { enable_push: false, .. } => Some("lets nobody push"),
        BranchProtection { require_signed_commits: true, .. } => Some("wants signed commits, which a run's are not"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_by_gitea_s_globs() {
        for glob in ["**", "bottle/**", "bottle/*", RUN_BRANCH, "*/*", "["] {
            assert!(fits(glob), "{glob}");
        }
        for glob in ["main", "*", "bottle", "bottle/*/*"] {
            assert!(!fits(glob), "{glob}");
        }
    }
}
