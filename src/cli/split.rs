//! `bottle-runner split`: an issue's task list as issues, which runs can do side by side.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bottle_plan::plan::branch_stem;
use bottle_plan::prose;
use bottle_plan::task::{Source, Task, Thread};
use bottle_plan::task_list::{MAX_TASKS, TaskList, task_list};

use super::task::{self, PlanResult, PlannedRun};
use super::task_args::TaskArgs;
use super::{Context, failed, note, print};
use crate::exit::{Code, Failure};
use crate::forge::{Dry, Forge};
use crate::report::actions::{self, conclusion};
use crate::thread::{DividedIssue, TaskIssue, divide, show_tasks};
use crate::workflow_commands::plain;

/// In a job: open an issue for each open task of an issue's task list, for runs of their own.
///
/// A comment on the issue names them, with their pull requests. Done again it opens nothing twice, and brings the comment up to date.
#[derive(Debug, clap::Args)]
pub(crate) struct SplitArgs {
    /// Divide this issue, as the forge has it now, instead of the event's.
    #[arg(long, value_name = "NUMBER", conflicts_with = "event")]
    issue: Option<u64>,
    /// The file with the forge's webhook payload; in Actions it is GITHUB_EVENT_PATH by default.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// The event's name, such as `issues`, if the payload does not show it; in Actions it is GITHUB_EVENT_NAME.
    #[arg(long, value_name = "NAME", requires = "event")]
    event_name: Option<String>,
    /// The agent of the manifest that shall do the tasks.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The manifest; default: claude-bottle.yml or .github/claude-bottle.yml of the base branch.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Print which issues would be opened, and open none.
    #[arg(long)]
    dry_run: bool,
}

/// The result of a division.
enum Division {
    Done {
        /// What came of it.
        lines: Vec<String>,
        /// The issues that runs shall do, and the agent of these.
        due: Vec<u64>,
        agent: String,
    },
    Nothing(String),
}

pub(super) async fn main(args: &SplitArgs, context: &Context) -> Result<Code, Failure> {
    context.mask_credentials();
    let result = split(args, context).await;
    if context.in_actions()
        && let Some(path) = context.environment.get("GITHUB_OUTPUT")
    {
        let (word, due, agent) = match &result {
            Ok(Division::Done { due, agent, .. }) => ("success", due.as_slice(), agent.as_str()),
            Ok(Division::Nothing(_)) => ("skipped", &[][..], ""),
            Err(failure) => (conclusion(failure.code), &[][..], ""),
        };
        actions::write_issues(Path::new(path), word, due, agent)?;
    }
    // In a job a line that begins with `::` would be a command.
    let shown = |line: &String| if context.in_actions() { plain(line) } else { line.clone() };
    match result {
        Ok(Division::Done { lines, .. }) => print(&lines.iter().map(shown).collect::<Vec<_>>().join("\n")),
        Ok(Division::Nothing(why)) => print(&shown(&format!("nothing to do: {why}"))),
        // Anybody can write a comment: none of them makes this repository's jobs red.
        Err(failure) if failure.by_stranger && context.in_actions() => Ok(note(&failure)),
        Err(failure) => Err(failure),
    }
}

async fn split(args: &SplitArgs, context: &Context) -> Result<Division, Failure> {
    let named = TaskArgs {
        issue: args.issue,
        event: args.event.clone(),
        event_name: args.event_name.clone(),
        agent: args.agent.clone(),
        manifest: args.manifest.clone(),
        ..TaskArgs::default()
    };
    // The plan of a run for the whole issue: who asked is checked, and what would keep each run from starting is found now.
    let planned = match task::plan(&named, args.dry_run, &BTreeSet::new(), context).await? {
        PlanResult::Plan(planned) => planned,
        PlanResult::Nothing(why) | PlanResult::Done(why) => return Ok(Division::Nothing(why)),
        PlanResult::Unclear(unclear, _) => return Ok(Division::Nothing(unclear.to_string())),
        PlanResult::AutoMerge(_) => return Ok(Division::Nothing("the comment asks for a merge".to_owned())),
    };
    let PlannedRun { plan, planning, forge, .. } = *planned;
    let Some(forge) = forge? else {
        return Err(Failure::input("this is no job of a forge, where issues are").hint("run it in a workflow"));
    };
    let task = &planning.task;
    let Some(thread) = task.thread().filter(|_| !task.is_about_a_pull_request()) else {
        return Err(Failure::input("the task is not about an issue").hint("give --issue NUMBER"));
    };
    let list = task_list(&thread.body);
    check(thread, &list)?;
    if list.open.is_empty() {
        let done = if list.done > 0 { format!("all {} are ticked", list.done) } else { "it has none".to_owned() };
        let left = list.left_out.iter().map(|why| format!("; {why}")).collect::<String>();
        return Ok(Division::Nothing(format!(
            "issue #{} has no open task in a task list: {done}{left}",
            thread.number
        )));
    }
    let me = forge.myself().await.map_err(failed)?.ok_or_else(|| {
        Failure::machine("which issues are our own can't be told: the forge does not say whose token this is")
            .hint("give the token read:user")
    })?;
    let dry = args.dry_run.then(|| Arc::new(Dry::new(forge.clone())));
    let forge: &dyn Forge = dry.as_deref().map_or(forge.as_ref(), |dry| dry);
    let text = prose::for_posting(&thread.body).text;
    let divided = DividedIssue { number: thread.number, list: &list, text: &text, me: &me };
    let mut tasks = divide(forge, &divided).await.map_err(failed)?;
    for part in tasks.iter_mut().filter(|part| part.issue.is_open && part.issue.number > 0) {
        let issue = part.issue.clone();
        let of_issue =
            Thread { number: issue.number, title: issue.title, body: issue.body, author: None, url: issue.url };
        let its_task = Task { source: Source::Issue(of_issue), agent: task.agent.clone(), ..Task::text("") };
        let stem = branch_stem(&its_task, &planning.manifest, &planning.options).map_err(Failure::input)?;
        let pulls = forge.open_below(&stem).await.map_err(failed)?;
        part.pull_request = pulls.iter().map(|pull| pull.number).min();
    }
    show_tasks(forge, &divided, &tasks).await.map_err(failed)?;
    Ok(Division::Done {
        lines: said(thread.number, &list, &tasks, args.dry_run),
        agent: plan.agent.name.to_string(),
        due: tasks
            .iter()
            .filter(|part| part.is_due())
            .map(|part| part.issue.number)
            .filter(|number| *number > 0)
            .collect(),
    })
}

/// Refuses a list that would be too many runs.
fn check(thread: &Thread, list: &TaskList) -> Result<(), Failure> {
    let open = list.open.len();
    if open <= MAX_TASKS {
        return Ok(());
    }
    Err(Failure::input(format_args!(
        "issue #{} has {open} open tasks, and is divided into at most {MAX_TASKS}",
        thread.number
    ))
    .hint("divide the list among issues, or tick what is not to be done now"))
}

/// What came of it, a line an issue.
fn said(number: u64, list: &TaskList, parts: &[TaskIssue], dry_run: bool) -> Vec<String> {
    let mut lines = vec![format!("issue #{number} has {} open tasks, {} are done", list.open.len(), list.done)];
    for part in parts {
        let title = prose::name(&part.issue.title, 80);
        lines.push(match (part.issue.number, part.pull_request) {
            (0, _) => format!("  would open an issue: {title}"),
            (issue, Some(pull)) => format!("  #{issue} {title}: in pull request #{pull}"),
            (issue, None) if part.is_due() => format!("  #{issue} {title}: to be done"),
            (issue, None) if part.issue.is_open => format!("  #{issue} {title}: no open task of the list any more"),
            (issue, None) => format!("  #{issue} {title}: closed"),
        });
    }
    lines.extend(list.left_out.iter().map(|why| format!("  left out: {why}")));
    if dry_run {
        lines.push("a dry run: nothing was written".to_owned());
    }
    lines
}
