//! `bottle-runner run`: the whole run, and what is said at its end.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bottle_plan::plan::BottlePlan;
use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Outcome;
use tokio::signal::unix::{SignalKind, signal};

use super::forge_token::ForgeToken;
use super::task::{self, PlanResult, PlannedRun};
use super::task_args::TaskArgs;
use super::{Context, oldest, print, resume};
use crate::cancel::Cancel;
use crate::exchange;
use crate::exit::{Code, Failure};
use crate::forge::{Dry, Forge, app};
use crate::report::actions::{self, Outputs, conclusion};
use crate::report::{Actions, Events, Json, Reporter, Terminal};
use crate::run::{self, RunInputs, RunMode, RunResult};
use crate::secrets::{Exchange, Secrets};
use crate::workflow_commands::{self, escaped, plain};

/// How often an issue that was chosen is left to another run.
const MAX_LEFT: usize = 10;

/// Do a task in a bottle, from the event to the pushed branch.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// Do the whole run, but let nothing leave: the gate scans and keeps the push, and would-do.jsonl lists all changes to the forge.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print events as JSON lines on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) async fn main(args: RunArgs, context: Context) -> Result<Code, Failure> {
    context.mask_credentials();
    let mut outputs = Outputs::default();
    let result = run_task(args, &context, &mut outputs).await;
    if outputs.conclusion.is_empty() {
        outputs.conclusion = conclusion(result.as_ref().map_or_else(|failure| failure.code, |code| *code));
    }
    if context.in_actions()
        && let Some(path) = context.environment.get("GITHUB_OUTPUT")
    {
        // A step whose outputs are missing must not pass for one that has none.
        actions::write_outputs(Path::new(path), &outputs)?;
    }
    match result {
        // Anybody can write a comment: none of them makes this repository's jobs red.
        Err(failure) if failure.by_stranger && context.in_actions() => Ok(super::note(&failure)),
        result => result,
    }
}

async fn run_task(args: RunArgs, context: &Context, outputs: &mut Outputs) -> Result<Code, Failure> {
    let cancel = Cancel::listen()?;
    let mut passed = BTreeSet::new();
    loop {
        match run_once(&args, &passed, context, &cancel, outputs).await? {
            RunEnd::Ended(code) => return Ok(code),
            // Each time another run was quicker; one that is always is left alone.
            RunEnd::Left { why, .. } if passed.len() >= MAX_LEFT => return nothing(&why, context, outputs),
            RunEnd::Left { issue, .. } => passed.insert(issue),
        };
    }
}

/// The end of a try to do a task.
enum RunEnd {
    Ended(Code),
    /// Another run took up the issue that was chosen, before this one had it.
    Left {
        issue: u64,
        why: String,
    },
}

/// Plans once, and runs what is planned.
async fn run_once(
    args: &RunArgs,
    passed: &BTreeSet<u64>,
    context: &Context,
    cancel: &Cancel,
    outputs: &mut Outputs,
) -> Result<RunEnd, Failure> {
    let code = match task::plan(&args.task, args.dry_run, passed, context).await? {
        PlanResult::Plan(planned) => return start(*planned, args, context, cancel, outputs).await,
        PlanResult::Done(what) => {
            outputs.conclusion = "success";
            print(&if context.in_actions() { plain(&what) } else { what })
        }
        PlanResult::AutoMerge(request) => {
            let what = if args.dry_run { request.would() } else { request.carry_out().await? };
            outputs.conclusion = "success";
            print(&if context.in_actions() { plain(&what) } else { what })
        }
        PlanResult::Nothing(why) => nothing(&why, context, outputs),
        PlanResult::Unclear(unclear, forge) => {
            if !args.dry_run
                && let Err(error) = forge.puzzle_over(unclear.comment_id).await
            {
                tracing::warn!("the comment got no answer: {error}; {}", error.hint());
            }
            nothing(&unclear.to_string(), context, outputs)
        }
    };
    code.map(RunEnd::Ended)
}

/// Runs what is planned.
async fn start(
    planned: PlannedRun,
    args: &RunArgs,
    context: &Context,
    cancel: &Cancel,
    outputs: &mut Outputs,
) -> Result<RunEnd, Failure> {
    let (plan, planning, chosen) = (planned.plan, planned.planning, planned.chosen);
    let forge = planned.forge?.map(|forge| match plan.dry_run {
        true => Arc::new(Dry::new(forge)) as Arc<dyn Forge>,
        false => forge,
    });
    let Some(mode) = mode(&plan)? else {
        return nothing("the run record has no work that was accepted", context, outputs).map(RunEnd::Ended);
    };
    // From here on it takes credentials anew, and ends nothing.
    let hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::machine(format_args!("failed to listen for signals: {error}")))?;
    let secrets = Secrets::read(&plan, &context.environment, planning.checkout.as_ref(), exchange::of_plan).await?;
    if let Some(app) = &context.app {
        let exchange: Arc<dyn Exchange> = app.clone();
        secrets.exchanged(app::TOKEN, app.life(), &exchange);
    }
    if context.in_actions() {
        secrets.values().iter().for_each(|value| workflow_commands::mask(value));
    }
    let forges = ForgeToken::of(&plan, context.app.is_some(), forge.as_ref());
    forges.start(&secrets)?;
    let guest_inputs = planning.guest_inputs(&plan, planned.attached, &secrets).await?;
    let events = Events::new(reporters(args.json, context)?);
    events.mask_with(secrets.clone());
    for note in &plan.notes {
        events.note(note.clone());
    }
    let (dir, dry_run) = (plan.state_dir.clone(), plan.dry_run);
    let manifest = planned.manifest;
    let (cache_dir, session_dir) = (context.environment.setup_cache(), context.environment.sessions());
    let fresh = secrets.clone();
    let traceparent = context.environment.traceparent();
    let is_choice = chosen.is_some();
    let inputs = RunInputs {
        plan,
        planning,
        manifest,
        guest_inputs,
        secrets,
        mode,
        cache_dir,
        session_dir,
        forge,
        is_choice,
        traceparent,
    };
    let ended = tokio::select! {
        ended = run::run(inputs, &events, cancel) => ended,
        never = fresh.keep_fresh(hangups, |renewed| forges.take(renewed, &events)) => match never {},
    };
    let outcome = match ended {
        Ok(RunResult::TakenUp(why)) => {
            let Some(issue) = chosen else { return nothing(&why, context, outputs).map(RunEnd::Ended) };
            events.note(oldest::left(issue, &why));
            return Ok(RunEnd::Left { issue, why });
        }
        Ok(RunResult::Ended(outcome)) => outcome,
        Err(failure) => {
            outputs.record = Some(dir);
            return Err(failure);
        }
    };
    outputs.record = Some(dir.clone());
    let code = farewell(&outcome, &dir, args, context);
    // Nothing leaves a dry run, and no step goes on with the answer of a run that failed.
    if code == Code::Done && !dry_run {
        outputs.answer = answer(Path::new(&dir))?;
    }
    outputs.outcome = Some(outcome);
    Ok(RunEnd::Ended(code))
}

/// The agent's answer and its file, if there is one.
fn answer(dir: &Path) -> Result<Option<(String, String)>, Failure> {
    let path = dir.join(RecordFile::Answer);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((text.trim_end().to_owned(), path.display().to_string()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::machine(format_args!("failed to read the answer {}: {error}", path.display()))),
    }
}

/// The readers of a run's events.
fn reporters(json: bool, context: &Context) -> Result<Vec<Box<dyn Reporter>>, Failure> {
    let terminal = Terminal::new(context.style);
    let mut reporters: Vec<Box<dyn Reporter>> = match context.in_actions() {
        true => {
            let summary = context.environment.get("GITHUB_STEP_SUMMARY").map(Into::into);
            vec![Box::new(Actions::new(Box::new(terminal), summary)?)]
        }
        false => vec![Box::new(terminal)],
    };
    if json {
        reporters.push(Box::new(Json));
    }
    Ok(reporters)
}

fn nothing(why: &str, context: &Context, outputs: &mut Outputs) -> Result<Code, Failure> {
    outputs.conclusion = "skipped";
    print(&format!("nothing to do: {}", if context.in_actions() { plain(why) } else { why.to_owned() }))
}

/// The mode of a plan, with what is read for it; none where there is nothing to publish.
fn mode(plan: &BottlePlan) -> Result<Option<RunMode>, Failure> {
    if let Some(undo) = plan.task.course.undo() {
        // Another job's work has nothing that it needs.
        return Ok(Some(RunMode::Undo(undo.clone())));
    }
    Ok(match (plan.replay.as_deref(), plan.publish.as_deref()) {
        (None, None) => Some(RunMode::Live),
        (Some(path), None) => Some(RunMode::Replay(cassette(Path::new(path))?)),
        (None, Some(path)) => run::handoff(Path::new(path))?.map(RunMode::Publish),
        (Some(_), Some(_)) => {
            return Err(Failure::input("a run can't both replay a cassette and publish another run's work")
                .hint("give --replay or --publish"));
        }
    })
}

/// The cassette of a run record, or the file itself.
fn cassette(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = if path.is_dir() { path.join(RecordFile::Cassette) } else { path.to_owned() };
    let bytes = std::fs::read(&file).map_err(|error| {
        Failure::input(format_args!("failed to read the cassette {}: {error}", file.display()))
            .hint("give --replay a run record or a cassette file")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::input(format_args!("the cassette {} is not UTF-8 text", file.display())))?;
    bottle_wire::cassette::Cassette::parse(&text)
        .map_err(|error| Failure::input(format_args!("the cassette {}: {error}", file.display())))?;
    Ok(text.into_bytes())
}

/// The last lines: where the record is; after a failure also how to look, rerun and replay.
fn farewell(outcome: &Outcome, dir: &str, args: &RunArgs, context: &Context) -> Code {
    let (in_actions, style) = (context.in_actions(), context.style);
    let code = outcome.code;
    let mut text = String::new();
    if code != Code::Done {
        let shown = if in_actions { plain(&outcome.summary) } else { outcome.summary.clone() };
        text.push_str(&format!("{} {shown}\n", style.paint("1;31", "error:")));
        text.push_str(&format!("  look:    {dir}/summary.md, transcript.jsonl, compose.log\n"));
        text.push_str("  again:   the same command; it starts from a clean bottle\n");
        text.push_str(&format!("  replay:  bottle-runner run --dry-run --replay {dir}{}\n", args.task.again()));
        if in_actions {
            text.push_str(&format!("::error title=claude-bottle::{}\n", escaped(&outcome.summary)));
        }
    }
    if resume::read(Path::new(dir)).is_ok_and(|resumed| resumed.more) {
        text.push_str(&format!("  resume:  bottle-runner run --resume {dir}  (with what was granted for the image)\n"));
    }
    text.push_str(&format!("run record: {dir}\n"));
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}
