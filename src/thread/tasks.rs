//! An issue divided into issues, one for each open task of its list, and a comment of ours that names them with their pull requests.
//!
//! The comment is there before the first issue is, and names each as soon as it is opened. An issue bears a hidden mark of its task's
//! text, by which a later try finds it: the same list divided again opens nothing twice. Only our own comment is believed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bottle_plan::task_list::{ListedTask, TaskList};
use bottle_policy::outputs::CloseReason;

use super::outputs::{bears, comment, issue, ours};
use crate::forge::{Author, Comment, Forge, ForgeError, Issue};

/// Begins the comment; nobody's text that we post can hold it.
const MARK: &str = "<!-- claude-bottle: tasks -->";
/// Begins the line that names the issues.
const BEGIN: &str = "<!-- claude-bottle: task-issues";
const END: &str = " -->";
/// The comment's text until all issues are there.
const BEGUN: &str = "This issue is being divided into its tasks.";
/// How much of the whole issue each task's has, in characters.
const MAX_WHOLE: usize = 8000;

/// An issue that is divided.
pub(crate) struct DividedIssue<'a> {
    pub(crate) number: u64,
    pub(crate) list: &'a TaskList,
    /// Its text, fit to be posted.
    pub(crate) text: &'a str,
    /// Who we are at the forge.
    pub(crate) me: &'a Author,
}

/// A task that has an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskIssue {
    /// Of its text.
    pub(crate) key: String,
    pub(crate) issue: Issue,
    /// An open pull request of a run's for it.
    pub(crate) pull_request: Option<u64>,
    /// Whether the list has it still, as an open task.
    pub(crate) is_listed: bool,
}

impl TaskIssue {
    /// Whether a run shall do it.
    pub(crate) fn is_due(&self) -> bool {
        self.issue.is_open && self.is_listed && self.pull_request.is_none()
    }
}

/// Opens an issue for each open task that has none; gives those of tasks that the list had earlier, too.
pub(crate) async fn divide(forge: &dyn Forge, divided: &DividedIssue<'_>) -> Result<Vec<TaskIssue>, ForgeError> {
    let card = card(forge, divided).await?;
    let mut known = read(&card.body);
    let mut issues: BTreeMap<String, Issue> = BTreeMap::new();
    for (key, number) in &known {
        match forge.issue(*number).await {
            Ok(found) => _ = issues.insert(key.clone(), found),
            // Somebody has deleted it: its task is opened anew.
            Err(error) if matches!(error.status(), Some(404 | 410)) => {}
            Err(error) => return Err(error),
        }
    }
    known.retain(|(key, _)| issues.contains_key(key));
    let mut opened = false;
    for (at, task) in divided.list.open.iter().enumerate() {
        if issues.contains_key(&task.key) {
            continue;
        }
        let made = open(forge, divided, card.written.as_deref(), at, task).await?;
        known.push((task.key.clone(), made.number));
        issues.insert(task.key.clone(), made);
        opened = true;
        comment(forge, divided.number, MARK, &format!("{}\n{BEGUN}", line(&known))).await?;
    }
    if opened {
        withdraw_second(forge, divided, card.written.as_deref(), &mut known, &mut issues).await?;
    }
    let with_issue = known.into_iter().filter_map(|(key, _)| {
        let issue = issues.remove(&key)?;
        let is_listed = divided.list.open.iter().any(|task| task.key == key);
        Some(TaskIssue { key, issue, pull_request: None, is_listed })
    });
    Ok(with_issue.collect())
}

/// Brings the comment up to date.
pub(crate) async fn show_tasks(
    forge: &dyn Forge,
    divided: &DividedIssue<'_>,
    tasks: &[TaskIssue],
) -> Result<(), ForgeError> {
    let known: Vec<(String, u64)> = tasks.iter().map(|task| (task.key.clone(), task.issue.number)).collect();
    comment(forge, divided.number, MARK, &format!("{}\n{}", line(&known), shown(tasks, divided.list))).await.map(|_| ())
}

/// Our comment; a new one where there is none. Of two that are made at once the first counts.
async fn card(forge: &dyn Forge, divided: &DividedIssue<'_>) -> Result<Comment, ForgeError> {
    let there = async || {
        let all = ours(forge, forge.comments(divided.number).await?, MARK).await?;
        Ok::<_, ForgeError>(all.into_iter().find(|one| one.author.is(divided.me)))
    };
    if let Some(found) = there().await? {
        return Ok(found);
    }
    let made = forge.comment(divided.number, &format!("{MARK}\n{}\n{BEGUN}", line(&[]))).await?;
    match there().await? {
        Some(first) if first.id != made.id && made.id > 0 => {
            forge.delete_comment(made.id).await?;
            Ok(first)
        }
        _ => Ok(made),
    }
}

fn mark(number: u64, key: &str) -> String {
    format!("<!-- claude-bottle: task {key} of {number} -->")
}

/// Opens the issue of a task, at most once.
async fn open(
    forge: &dyn Forge,
    divided: &DividedIssue<'_>,
    since: Option<&str>,
    at: usize,
    task: &ListedTask,
) -> Result<Issue, ForgeError> {
    let (number, all) = (divided.number, divided.list.open.len());
    let mut whole: String = divided.text.chars().take(MAX_WHOLE).collect();
    if whole.len() < divided.text.len() {
        whole.push_str("\n(cut off)");
    }
    let quoted: String = whole.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "> {line}");
        all
    });
    let body = format!(
        "Task {} of {all} of issue #{number}.\n\n{}\n\n---\n\nThe whole of issue #{number}, of which only the task above is to be done here:\n\n{quoted}",
        at + 1,
        task.text
    );
    issue(forge, since, &mark(number, &task.key), (&task.title, &body, &[])).await.map(|(made, _)| made)
}

/// Of two issues for a task, which two jobs have opened at once, the first stays.
async fn withdraw_second(
    forge: &dyn Forge,
    divided: &DividedIssue<'_>,
    since: Option<&str>,
    known: &mut [(String, u64)],
    issues: &mut BTreeMap<String, Issue>,
) -> Result<(), ForgeError> {
    let all = forge.issues_since(since).await?;
    for (key, number) in known.iter_mut().filter(|(_, number)| *number > 0) {
        let mark = mark(divided.number, key);
        let ours = all.iter().filter(|one| bears(&one.body, &mark) && one.author.is(divided.me));
        let Some(first) = ours.min_by_key(|one| one.number).filter(|first| first.number < *number) else { continue };
        forge.close_issue(*number, CloseReason::NotPlanned).await?;
        *number = first.number;
        issues.insert(key.clone(), first.clone());
    }
    Ok(())
}

/// The line that names the issues.
fn line(known: &[(String, u64)]) -> String {
    let named = known.iter().filter(|(_, number)| *number > 0);
    named.fold(BEGIN.to_owned(), |all, (key, number)| format!("{all} {key}={number}")) + END
}

/// The issues that our comment names, by the key of each task.
fn read(body: &str) -> Vec<(String, u64)> {
    let line = body.lines().nth(1).unwrap_or_default().trim();
    let named = line.strip_prefix(BEGIN).and_then(|line| line.strip_suffix(END)).unwrap_or_default();
    let pair = |word: &str| {
        let (key, number) = word.split_once('=')?;
        Some((key.to_owned(), number.parse().ok().filter(|number| *number > 0)?))
    };
    named.split(' ').filter_map(pair).collect()
}

/// The comment's text for people.
fn shown(parts: &[TaskIssue], list: &TaskList) -> String {
    let mut text = "### The tasks of this issue\n\n".to_owned();
    for part in parts {
        let tick = if part.issue.is_open { ' ' } else { 'x' };
        let what = match (part.pull_request, part.issue.is_open, part.is_listed) {
            (Some(number), ..) => format!("in pull request #{number}"),
            (None, false, _) => "closed".to_owned(),
            (None, true, true) => "no pull request yet".to_owned(),
            (None, true, false) => "no open task of the list any more; close it if nothing is to be done".to_owned(),
        };
        let _ = writeln!(text, "- [{tick}] #{}: {what}", part.issue.number);
    }
    if !list.left_out.is_empty() {
        text.push_str("\nLeft out:\n\n");
        for why in &list.left_out {
            let _ = writeln!(text, "- {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_it_was_written() {
        let known = vec![("00112233".to_owned(), 12), ("44556677".to_owned(), 13)];
        assert_eq!(read(&format!("{MARK}\n{}\n### x", line(&known))), known);
        assert_eq!(read(&format!("{MARK}\n{}", line(&[]))), []);
        assert_eq!(read(&format!("{MARK}\n{}", line(&[("a".to_owned(), 0)]))), [], "a dry run's has no number");
    }

    #[test]
    fn anything_else_names_nothing() {
        let line = line(&[("a".to_owned(), 12)]);
        for body in [
            String::new(),
            MARK.to_owned(),
            line.clone(),
            format!("{MARK}\n\n{line}"),
            format!("{MARK}\n{BEGIN} a=x b a=0 =-1{END}"),
            format!("{MARK}\n{BEGIN} a=12"),
        ] {
            assert_eq!(read(&body), [], "{body}");
        }
    }
}
