//! Which refs may be pushed.

use bottle_types::git::RefName;
use globset::{Glob, GlobBuilder, GlobMatcher};

use super::{GateError, PushRules};

/// The branch in which the runner keeps the ledger of a repository's budget, at a forge whose API writes no other refs.
pub const LEDGER_BRANCH: &str = "claude-bottle/budget";

/// A glob over names with slashes: `*` stays within one part, `**` crosses them.
pub(crate) fn glob(text: &str, fold_case: bool) -> Result<GlobMatcher, GateError> {
    parsed(text, fold_case)
        .map(|glob| glob.compile_matcher())
        .map_err(|error| GateError::Glob { glob: text.to_owned(), reason: error.kind().to_string() })
}

pub(crate) fn parsed(text: &str, fold_case: bool) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).case_insensitive(fold_case).build()
}

/// The judge of ref names of one upstream.
#[derive(Debug, Clone)]
pub struct RefRules {
    allowed: Vec<GlobMatcher>,
    shown: String,
    tags: bool,
    /// Whether a glob is about tags; with none, `tags` lets every tag through.
    names_tags: bool,
}

/// A ref that may be pushed, and the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedRef {
    /// Its name.
    pub name: RefName,
    /// Which glob of `push.refs` names it, from 0; none: `push.tags` lets every tag through.
    pub glob: Option<usize>,
}

/// Why a ref may not be pushed; reads after "refused refs/heads/x: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefRefusal {
    /// Git itself, a shell or a terminal would stumble over it.
    #[error("not a ref name that this gate takes; use letters, digits, `-`, `_`, `.` and `/`")]
    Malformed,
    /// A name of 40 or 64 hex digits is taken for an object's id.
    #[error("a ref named like an object id is ambiguous; choose another name")]
    LikeAnObject,
    /// Notes, replace refs and all that is neither branch nor tag.
    #[error("only branches{} can be pushed", if *.0 { " and tags" } else { "" })]
    Namespace(bool),
    /// The runner's own, whatever a glob says.
    #[error("the runner keeps the repository's budget there, and nobody else writes to it; choose another name")]
    Ledger,
    /// A tag, where they are off.
    #[error("tags can't be pushed here; push the branch alone")]
    Tag,
    /// The ref is to go away.
    #[error("refs can't be deleted through the gate; leave it as it is")]
    Deletion,
    /// No glob allows it.
    #[error("not among the refs that may be pushed ({0}); push to one of those")]
    NotAllowed(String),
}

impl RefRules {
    /// Compiles the globs of `push.refs`.
    pub fn new(rules: &PushRules) -> Result<Self, GateError> {
        Ok(Self {
            allowed: rules.refs.iter().map(|text| glob(text, false)).collect::<Result<_, _>>()?,
            shown: if rules.refs.is_empty() { "none".to_owned() } else { rules.refs.join(", ") },
            tags: rules.tags,
            names_tags: rules.refs.iter().any(|glob| glob.starts_with("refs/tags/")),
        })
    }

    /// Whether a glob of `push.refs` takes in the ref of this full name; one that is no glob takes in none.
    pub fn covers(refs: &str, name: &str) -> bool {
        glob(refs, false).is_ok_and(|glob| glob.is_match(name))
    }

    /// Gives the ref of this full name, if it may be created or updated.
    pub fn judge(&self, name: &str) -> Result<RefName, RefRefusal> {
        self.judge_update(name, false).map(|allowed| allowed.name)
    }

    /// Judges a change of the ref of this full name; `deletes`: that it is to go away.
    pub fn judge_update(&self, name: &str, deletes: bool) -> Result<AllowedRef, RefRefusal> {
        let short = match name.strip_prefix("refs/heads/") {
            Some(short) => short,
            None => name.strip_prefix("refs/tags/").ok_or(RefRefusal::Namespace(self.tags))?,
        };
        let parsed = RefName::parse(name).ok().filter(|_| well_formed(short)).ok_or(RefRefusal::Malformed)?;
        let last = short.rsplit('/').next().unwrap_or(short);
        if [short, last].iter().any(|text| like_an_object(text)) {
            return Err(RefRefusal::LikeAnObject);
        }
        let is_tag = name.starts_with("refs/tags/");
        if !is_tag && is_ledger(short) {
            return Err(RefRefusal::Ledger);
        }
        if is_tag && !self.tags {
            return Err(RefRefusal::Tag);
        }
        let glob = self.allowed.iter().position(|glob| glob.is_match(name));
        let every_tag = is_tag && !self.names_tags;
        match glob {
            None if !every_tag => Err(RefRefusal::NotAllowed(self.shown.clone())),
            _ if deletes => Err(RefRefusal::Deletion),
            _ => Ok(AllowedRef { name: parsed, glob }),
        }
    }
}

/// Whether a branch may have this name, without `refs/heads/`, in anything that we hand to git.
pub fn is_branch_name(short: &str) -> bool {
    well_formed(short) && !like_an_object(short)
}

/// Tells whether a name has nothing in it that git, a terminal, a shell or another system reads differently. It is stricter than
/// [`RefName::parse`] everywhere.
fn well_formed(short: &str) -> bool {
    short.len() <= 200
        && short != "HEAD"
        && !short.contains("..")
        && !short.contains("@{")
        && short
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '@' | '#' | '=' | ','))
        && short.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
        })
}

/// Whether a branch is the ledger's, or one beside which git could not have it. A server's file system may not tell case apart.
pub fn is_ledger(short: &str) -> bool {
    let short = short.to_ascii_lowercase();
    let is_above = |upper: &str, lower: &str| lower.strip_prefix(upper).is_some_and(|rest| rest.starts_with('/'));
    short == LEDGER_BRANCH || is_above(&short, LEDGER_BRANCH) || is_above(LEDGER_BRANCH, &short)
}

fn like_an_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(tags: bool) -> RefRules {
        let refs = vec!["refs/heads/bottle/**".to_owned(), "refs/heads/one-*".to_owned()];
        RefRules::new(&PushRules { refs, tags, ..PushRules::default() }).expect("globs")
    }

    #[test]
    fn allowed_branches_pass() {
        for name in
            ["refs/heads/bottle/x", "refs/heads/bottle/a/b-c_d.e", "refs/heads/one-two", "refs/heads/bottle/größe"]
        {
            assert_eq!(rules(false).judge(name).map(String::from).as_deref(), Ok(name), "{name}");
        }
        assert!(rules(true).judge("refs/tags/v1.0").is_ok());
    }

    #[test]
    fn globs_about_tags_hold_for_tags() {
        let refs = vec!["refs/tags/bottle-*".to_owned()];
        let rules = RefRules::new(&PushRules { refs, tags: true, ..PushRules::default() }).expect("globs");
        assert!(rules.judge("refs/tags/bottle-1").is_ok());
        assert!(matches!(rules.judge("refs/tags/v1"), Err(RefRefusal::NotAllowed(_))));
    }

    #[test]
    fn all_else_is_refused() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        for name in [
            "HEAD",
            "refs/heads/",
            "refs/heads/main",
            "refs/heads/one-a/b",
            "refs/heads/bottle",
            "refs/heads/HEAD",
            "refs/notes/commits",
            "refs/replace/x",
            "refs/stash",
            "refs/bottle/x",
            "refs/tags/v1",
            "refs/heads/bottle/../main",
            "refs/heads/bottle//x",
            "refs/heads/bottle/x.lock",
            "refs/heads/bottle/-x",
            "refs/heads/bottle/.x",
            "refs/heads/bottle/x y",
            "refs/heads/bottle/x\u{7}",
            "refs/heads/bottle/x\u{202e}y",
            "refs/heads/bottle/x@{1}",
            &format!("refs/heads/{id}"),
            &format!("refs/heads/bottle/{id}"),
        ] {
            assert!(rules(false).judge(name).is_err(), "{name}");
        }
        assert_eq!(rules(true).judge(&format!("refs/tags/{id}")), Err(RefRefusal::LikeAnObject));
    }

    #[test]
    fn the_ledger_is_out_of_reach_whatever_the_globs_say() {
        let refs = vec!["refs/heads/**".to_owned(), "refs/tags/**".to_owned()];
        let rules = RefRules::new(&PushRules { refs, tags: true, ..PushRules::default() }).expect("globs");
        for name in
            ["claude-bottle/budget", "claude-bottle", "claude-bottle/budget/x", "Claude-Bottle/BUDGET", "CLAUDE-BOTTLE"]
        {
            let name = format!("refs/heads/{name}");
            assert_eq!(rules.judge_update(&name, false), Err(RefRefusal::Ledger), "{name}");
            assert_eq!(rules.judge_update(&name, true), Err(RefRefusal::Ledger), "{name}");
        }
        for name in
            ["heads/claude-bottle/budgets", "heads/claude-bottle/x", "heads/claude-bottle-x", "tags/claude-bottle"]
        {
            assert!(rules.judge(&format!("refs/{name}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_glob_that_is_none_is_an_error() {
        let refs = vec!["refs/heads/[".to_owned()];
        assert!(RefRules::new(&PushRules { refs, ..PushRules::default() }).is_err());
    }
}
