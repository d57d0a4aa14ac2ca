//! What the last run of a conversation that has pushed did to its branch: a hidden line of our own comment, which `/claude undo` reads.
//!
//! Whoever reads it asks the forge whether the branch is still there: a run that died has written nothing.

use bottle_plan::name::Name;
use bottle_policy::gate::refs::is_branch_name;
use bottle_types::git::ObjectId;

use super::comments::{MARK, ours_of};
use crate::forge::{Forge, ForgeError};
use crate::report::BranchPush;

/// Begins the line.
const BEGIN: &str = "<!-- claude-bottle: pushed ";
const END: &str = " -->";
/// So many lines of ours stand below the mark, before what people see.
const HIDDEN_LINES: usize = 3;

/// The line; empty where no run has pushed.
pub(super) fn line(push: Option<&BranchPush>) -> String {
    push.map_or_else(String::new, |BranchPush { run, agent, branch, from, to }| {
        format!("{BEGIN}{run} {agent} {branch} {from} {to}{END}\n")
    })
}

/// The push in a comment of ours.
pub(super) fn read(body: &str) -> Option<BranchPush> {
    let mut lines = body.strip_prefix(MARK)?.lines().skip(1).take(HIDDEN_LINES);
    let line = lines.find_map(|line| line.trim().strip_prefix(BEGIN)?.strip_suffix(END))?;
    let mut words = line.split(' ');
    let (run, agent, branch) = (words.next()?, Name::parse(words.next()?).ok()?, words.next()?);
    let (from, to) = (ObjectId::parse(words.next()?).ok()?, ObjectId::parse(words.next()?).ok()?);
    let is_push = words.next().is_none() && is_branch_name(branch) && !to.is_null();
    is_push.then(|| BranchPush { run: run.to_owned(), agent: agent.to_string(), branch: branch.to_owned(), from, to })
}

/// The last push of a run in a conversation; none where there was none, or it was undone.
pub(crate) async fn last_push(forge: &dyn Forge, number: u64) -> Result<Option<BranchPush>, ForgeError> {
    Ok(ours_of(forge, number).await?.first().and_then(|comment| read(&comment.body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push() -> BranchPush {
        let id = |digit: &str| ObjectId::parse(&digit.repeat(40)).expect("an id");
        BranchPush {
            run: "issue-7-1a2b3c".to_owned(),
            agent: "implementer".to_owned(),
            branch: "bottle/issue-7-größe".to_owned(),
            from: id("0"),
            to: id("b"),
        }
    }

    #[test]
    fn a_push_is_read_as_it_was_written() {
        let line = line(Some(&push()));
        for before in ["<!-- lease -->\n", "<!-- lease -->\n<!-- claude-bottle: asked a/7/- -->\n"] {
            assert_eq!(read(&format!("{MARK}\n{before}{line}### x")), Some(push()), "{before}");
        }
        assert_eq!(super::line(None), "");
    }

    #[test]
    fn anything_else_is_no_push() {
        let ids = format!("{} {}", "a".repeat(40), "b".repeat(40));
        let line = line(Some(&push()));
        for body in [
            String::new(),
            format!("{MARK}\n### x"),
            // Not ours, or below what is ours.
            format!("x\n{MARK}\n<!-- lease -->\n{line}"),
            format!("{MARK}\n<!-- lease -->\n### x\n\n{line}"),
            format!("{MARK}\n\n{BEGIN}run agent bottle/x {ids} more{END}"),
            format!("{MARK}\n\n{BEGIN}run agent bottle/x {}{END}", "a".repeat(40)),
            format!("{MARK}\n\n{BEGIN}run agent --force {ids}{END}"),
            format!("{MARK}\n\n{BEGIN}run agent bottle/../main {ids}{END}"),
            format!("{MARK}\n\n{BEGIN}run a/b bottle/x {ids}{END}"),
            format!("{MARK}\n\n{BEGIN}run agent bottle/x {} HEAD{END}", "a".repeat(40)),
            format!("{MARK}\n\n{BEGIN}run agent bottle/x {} {}{END}", "a".repeat(40), "0".repeat(40)),
        ] {
            assert_eq!(read(&body), None, "{body}");
        }
    }
}
