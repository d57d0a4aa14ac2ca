//! `bottle-runner run`: the whole run, and what is said at its end.

use std::io::Write as _;
use std::path::Path;

use bottle_plan::plan::BackendChoice;

use super::task::{self, Asks, TaskArgs};
use super::{Context, annotation, print};
use crate::exit::{Code, Failure};
use crate::report::{Events, Json, Reporter, Terminal};
use crate::run::{self, Cancel, Start};
use crate::secrets::Secrets;
use crate::sources;
use crate::state::Outcome;

/// Do a task in a bottle, from the event to the pushed branch.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// The same run for real, but nothing leaves: a push is scanned and kept, the forge is only told in would-do.jsonl.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Events as JSON lines on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) async fn main(args: RunArgs, context: Context) -> Result<Code, Failure> {
    let cancel = Cancel::listen()?;
    let planned = match task::plan(&args.task, args.dry_run, &context).await? {
        Asks::Plan(planned) => *planned,
        Asks::Nothing(why) => return print(&format!("nothing to do: {why}")),
    };
    let plan = planned.plan;
    if !matches!(plan.backend, BackendChoice::Auto | BackendChoice::Docker) {
        return Err(Failure::machine("this version runs bottles on Docker alone")
            .hint("leave out --backend, or say --backend docker"));
    }
    let replay = plan.replay.as_deref().map(|path| cassette(Path::new(path))).transpose()?;
    let secrets = Secrets::read(&plan, &context.environment)?;
    let sources = sources::read(&plan, planned.checkout.as_ref()).await?;
    let in_actions = context.environment.get("GITHUB_ACTIONS").is_some();
    let mut reporters: Vec<Box<dyn Reporter>> = vec![Box::new(Terminal::new(context.style, in_actions))];
    if args.json {
        reporters.push(Box::new(Json));
    }
    let events = Events::new(reporters);
    events.mask_with(secrets.clone());
    for note in &plan.notes {
        events.note(note.clone());
    }
    let dir = plan.state_dir.clone();
    let outcome = run::run(Start { plan, sources, secrets, replay }, &events, &cancel).await?;
    Ok(farewell(&outcome, &dir, &args, in_actions, context.style))
}

/// The cassette of a run record, or the file itself.
fn cassette(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = if path.is_dir() { path.join("cassette.jsonl") } else { path.to_owned() };
    let bytes = std::fs::read(&file).map_err(|error| {
        Failure::input(format_args!("failed to read the cassette {}: {error}", file.display()))
            .hint("give --replay a run record or a cassette file")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::input(format_args!("the cassette {} is not UTF-8 text", file.display())))?;
    bottle_policy::cassette::Cassette::parse(&text)
        .map_err(|error| Failure::input(format_args!("the cassette {}: {error}", file.display())))?;
    Ok(text.into_bytes())
}

/// The last lines: where the record is; after a failure also how to look, rerun and replay.
fn farewell(outcome: &Outcome, dir: &str, args: &RunArgs, in_actions: bool, style: crate::report::Style) -> Code {
    let code = Code::ALL.iter().map(|(code, _)| *code).find(|code| *code as u8 == outcome.code).unwrap_or(Code::Task);
    let mut text = String::new();
    if code != Code::Done {
        text.push_str(&format!("{} {}\n", style.paint("1;31", "error:"), outcome.summary));
        text.push_str(&format!("  look:    {dir}/summary.md, transcript.jsonl, compose.log\n"));
        text.push_str("  again:   the same command; it starts from a clean bottle\n");
        text.push_str(&format!("  replay:  bottle-runner run --dry-run --replay {dir}{}\n", again(&args.task)));
        if in_actions {
            text.push_str(&format!("::error::{}\n", annotation(&outcome.summary)));
        }
    }
    text.push_str(&format!("run record: {dir}\n"));
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}

/// The options that make the same task again.
fn again(task: &TaskArgs) -> String {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let given = [
        ("--event", path(&task.event)),
        ("--event-name", task.event_name.clone()),
        ("--task", task.task.as_ref().map(|text| format!("'{}'", text.replace('\'', "'\\''")))),
        ("--agent", task.agent.clone()),
        ("--cwd", path(&task.cwd)),
        ("--manifest", path(&task.manifest)),
        ("--image", task.image.clone()),
    ];
    given.into_iter().filter_map(|(option, value)| Some(format!(" {option} {}", value?))).collect()
}
