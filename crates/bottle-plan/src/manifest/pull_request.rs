//! `pull_request:` of an agent: what its work is proposed as, and to whom.

use bottle_policy::gate::refs::is_branch_name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::words;

/// In `assignees`: whoever asked.
const ASKER: &str = "{asker}";
/// In `branch`: the number of the issue or pull request, and words of its title.
const NUMBER: &str = "{number}";
const SLUG: &str = "-{slug}";
/// The forges take no more reviewers and assignees than some tens.
const MOST_PEOPLE: usize = 15;
/// A branch that is longer reads badly everywhere.
pub(crate) const LONGEST_BRANCH: usize = 50;

/// How work is proposed. Labels are the agent's `labels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PullRequestRules {
    /// The branch that work which is not about a pull request starts from and is proposed to; none: the default branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The name of the branch for an issue or a pull request, such as `bottle/{number}-{slug}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether it is opened as a draft, and stays one until a person says that it is ready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draft: bool,
    /// Whether it closes the issue that it is about, or only names it.
    pub closes: bool,
    /// Logins whose review is asked for, and teams as `ORGANISATION/TEAM`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reviewers: Vec<String>,
    /// Logins that it is assigned to; `{asker}` is whoever asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assignees: Vec<String>,
    /// The title of an open milestone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestone: Option<String>,
}

impl Default for PullRequestRules {
    fn default() -> Self {
        Self {
            base: None,
            branch: None,
            draft: false,
            closes: true,
            reviewers: vec![],
            assignees: vec![],
            milestone: None,
        }
    }
}

impl PullRequestRules {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Tells what is wrong: the keys that lead to it, and the problem.
    pub(crate) fn check(&self) -> Result<(), (Vec<String>, String)> {
        let at = |key: &str| vec![key.to_owned()];
        if let Some(base) = self.base.as_ref().filter(|base| !is_branch_name(base)) {
            return Err((at("base"), format!("`{base}` is not the name of a branch")));
        }
        if let Some(branch) = &self.branch {
            check_template(branch).map_err(|problem| (at("branch"), problem))?;
        }
        for (key, people) in [("reviewers", &self.reviewers), ("assignees", &self.assignees)] {
            if people.len() > MOST_PEOPLE {
                return Err((at(key), format!("there are more than {MOST_PEOPLE}")));
            }
            for (index, one) in people.iter().enumerate() {
                let parts: Vec<&str> = one.split('/').collect();
                let is_one = match key {
                    "reviewers" => parts.len() <= 2,
                    _ => parts.len() == 1,
                };
                if !((is_one && parts.iter().all(|part| is_login(part))) || (key == "assignees" && one == ASKER)) {
                    let keys = vec![key.to_owned(), index.to_string()];
                    return Err((keys, format!("`{}` is not a login name", one.escape_debug())));
                }
            }
        }
        match &self.milestone {
            Some(title) if title.trim().is_empty() || title.len() > 255 || title.contains(char::is_control) => {
                Err((at("milestone"), "expected the title of a milestone, in one line".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// With the login of whoever asked in place of `{asker}`; where nobody did, without it.
    pub(crate) fn asked_by(&self, asker: Option<&str>) -> Self {
        let name = |one: &String| if one == ASKER { asker.map(str::to_owned) } else { Some(one.clone()) };
        let mut assignees: Vec<String> = self.assignees.iter().filter_map(name).collect();
        let mut seen = std::collections::BTreeSet::new();
        assignees.retain(|one| seen.insert(one.to_lowercase()));
        Self { assignees, ..self.clone() }
    }

    /// How the name of a branch begins that is about this number; what follows comes of the title, which people change.
    pub(crate) fn branch_stem(&self, number: u64) -> Option<String> {
        let template = self.branch.as_deref()?;
        Some(template.strip_suffix(SLUG).unwrap_or(template).replace(NUMBER, &number.to_string()))
    }

    /// The whole name.
    pub(crate) fn branch(&self, number: u64, title: &str) -> Option<String> {
        let stem = self.branch_stem(number)?;
        if !self.branch.as_deref().is_some_and(|template| template.ends_with(SLUG)) {
            return Some(stem);
        }
        let words = words(title, LONGEST_BRANCH.saturating_sub(stem.len() + 1));
        Some(if words.is_empty() { stem } else { format!("{stem}-{words}") })
    }
}

fn check_template(template: &str) -> Result<(), String> {
    let stem = template.strip_suffix(SLUG).unwrap_or(template);
    let (before, after) = stem
        .split_once(NUMBER)
        .ok_or_else(|| format!("`{template}` has no `{NUMBER}`, so two issues would have one branch"))?;
    if [before, after].iter().any(|part| part.contains(['{', '}'])) {
        return Err(format!("`{template}` has more than `{NUMBER}`, and `{SLUG}` at its end"));
    }
    // People have branches, too.
    if !before.contains('/') {
        return Err(format!("`{template}` has no directory of its own before `{NUMBER}`, such as `bottle/`"));
    }
    // `7-2` would be found where `7` is looked for.
    if !after.is_empty() {
        return Err(format!("`{template}` has something else behind `{NUMBER}` than `{SLUG}`"));
    }
    if is_branch_name(&format!("{before}7")) { Ok(()) } else { Err(format!("`{template}` makes no name of a branch")) }
}

/// As GitHub, Gitea and Forgejo have them; an app's ends with `[bot]`.
fn is_login(text: &str) -> bool {
    let name = text.strip_suffix("[bot]").unwrap_or(text);
    !name.is_empty()
        && name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> PullRequestRules {
        bottle_types::yaml::from_str(text).expect("rules")
    }

    #[test]
    fn a_branch_is_named_by_its_number_first() {
        let named = |template: &str| {
            let rules = rules(&format!("{{ branch: '{template}' }}"));
            assert_eq!(rules.check(), Ok(()), "{template}");
            (rules.branch_stem(7).expect("a stem"), rules.branch(7, "Count: it's wrong").expect("a name"))
        };
        let text = |(one, two): (&str, &str)| (one.to_owned(), two.to_owned());
        assert_eq!(named("bottle/{number}-{slug}"), text(("bottle/7", "bottle/7-count-its-wrong")));
        assert_eq!(named("fix/gh-{number}"), text(("fix/gh-7", "fix/gh-7")));
        assert_eq!(rules("{}").branch(7, "x"), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, key, problem) in [
            ("branch: 'bottle/x'", "branch", "has no `{number}`"),
            ("branch: 'bottle/{slug}-{number}'", "branch", "has more than"),
            ("branch: 'bottle/{number}/{slug}'", "branch", "has more than"),
            ("branch: 'bottle/{number}-{number}'", "branch", "has more than"),
            ("branch: '{number}-{slug}'", "branch", "has no directory of its own"),
            ("branch: 'bottle/../{number}'", "branch", "makes no name of a branch"),
            ("branch: 'bottle/{number}-x'", "branch", "has something else behind"),
            ("base: 'a b'", "base", "is not the name of a branch"),
            ("base: '-x'", "base", "is not the name of a branch"),
            ("reviewers: ['@mona']", "reviewers.0", "is not a login name"),
            ("reviewers: [mona, a/b/c]", "reviewers.1", "is not a login name"),
            ("reviewers: ['{asker}']", "reviewers.0", "is not a login name"),
            ("assignees: [acme/team]", "assignees.0", "is not a login name"),
            ("assignees: ['']", "assignees.0", "is not a login name"),
            ("milestone: ' '", "milestone", "expected the title"),
        ] {
            let (keys, found) = rules(text).check().expect_err(text);
            assert_eq!(keys.join("."), key, "{text}");
            assert!(found.contains(problem), "{text}: {found}");
        }
        assert_eq!(
            rules("reviewers: [mona, acme/team, 'helper[bot]']\nassignees: ['{asker}', a.b_c-d]").check(),
            Ok(())
        );
    }

    #[test]
    fn the_asker_is_named_once() {
        let assignees = |asker| rules("assignees: [Mona, '{asker}', hubot]").asked_by(asker).assignees;
        assert_eq!(assignees(Some("mona")), ["Mona", "hubot"]);
        assert_eq!(assignees(Some("octo")), ["Mona", "octo", "hubot"]);
        assert_eq!(assignees(None), ["Mona", "hubot"]);
    }
}
