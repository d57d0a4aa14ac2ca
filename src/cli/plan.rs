//! `bottle-runner plan`: what a run would do, printed; or what a change of the manifest allows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bottle_plan::compare::{Direction, compare, presets_to_ask};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest;
use bottle_types::git::ObjectId;

use super::task::{self, PlanResult};
use super::task_args::TaskArgs;
use super::{Context, extends, policy, print};
use crate::approve::visible;
use crate::exit::{Code, Failure};
use crate::host::{self, Base, Checkout};
use crate::process::Program;

/// Print what a run would do, and stop; needs no engine.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    task: TaskArgs,
    /// The format of the plan.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Plan a dry run.
    #[arg(long)]
    dry_run: bool,
    /// Make no plan: print what the manifest of this directory, committed or not, allows beyond that of BASE, a revision of git or a
    /// file, and what it no longer allows.
    #[arg(long, value_name = "BASE", conflicts_with_all = ["event", "task", "issue", "oldest_issue", "dry_run"])]
    diff: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// Everything, as in plan.json.
    Json,
    /// The docker-compose.yml.
    Compose,
}

pub(super) async fn main(args: PlanArgs, context: &Context) -> Result<Code, Failure> {
    if let Some(base) = &args.diff {
        return difference(base, &args, context).await;
    }
    match task::plan(&args.task, args.dry_run, &BTreeSet::new(), context).await? {
        PlanResult::Done(what) => print(&what),
        PlanResult::Nothing(why) => print(&format!("nothing to do: {why}")),
        PlanResult::AutoMerge(request) => print(&request.would()),
        PlanResult::Unclear(unclear, _) => print(&format!("nothing to do: {unclear}")),
        PlanResult::Plan(planned) => match args.format {
            Format::Text => print(&bottle_plan::render::text(&planned.plan)),
            Format::Json => print(&serde_json::to_string_pretty(&planned.plan).map_err(Failure::machine)?),
            Format::Compose => print(&bottle_plan::render::compose(&planned.plan)),
        },
    }
}

/// Prints what a change of the manifest newly allows, no longer allows, and changes otherwise.
async fn difference(base: &str, args: &PlanArgs, context: &Context) -> Result<Code, Failure> {
    let dir = args.task.cwd.clone().unwrap_or_else(|| PathBuf::from("."));
    let (name, text) = policy::manifest_text(args.task.manifest.as_deref(), &dir)?;
    let read = async |name: &str, text: &str| {
        let source = extends::source(name, text, &context.environment).await?;
        extends::manifest(&source)
    };
    let after = read(&name, &text).await?;
    let BaseManifest { found, commit } = base_manifest(base, &dir).await?;
    let before = match found {
        Some((name, text)) => Some(read(&name, &text).await?),
        None => None,
    };
    let checkout = Checkout::find(&dir).await;
    // A proposal that names a registry in its own files has no say in whom this machine asks.
    let rules = match (&checkout, &commit) {
        (Some(checkout), Some(commit)) => Base::in_checkout(checkout, commit, base).await,
        (checkout, _) => checkout.as_ref().map(Base::of_checkout),
    };
    let presets = presets_to_ask(before.as_ref(), &after);
    let registries = host::registries::gather(presets, rules.as_ref(), &context.environment).await;
    let facts = HostFacts { registries, ..HostFacts::default() };
    let found = compare(before.as_ref(), &after, &facts).map_err(Failure::machine)?;
    match args.format {
        Format::Json => return print(&serde_json::to_string_pretty(&found).map_err(Failure::machine)?),
        Format::Compose => {
            return Err(Failure::input("a difference is no compose file").hint("use --format text or json"));
        }
        Format::Text => {}
    }
    let mut out = String::new();
    if before.is_none() {
        let _ = writeln!(out, "{} has no manifest: everything is new", visible(base));
    }
    for (direction, title) in [
        (Direction::Allows, "Newly allowed:"),
        (Direction::Forbids, "No longer allowed:"),
        (Direction::Changes, "Changed:"),
    ] {
        let told = found.iter().filter(|one| one.direction == direction);
        let lines: String =
            told.map(|one| format!("- {} ({})\n", visible(&one.sentence), visible(&one.path))).collect();
        if !lines.is_empty() {
            let _ = writeln!(out, "{title}\n{lines}");
        }
    }
    if found.is_empty() {
        out.push_str("the manifest allows what it did\n");
    }
    print(out.trim_end())
}

/// What a manifest is compared with.
struct BaseManifest {
    /// Its name and its text; none: the commit has none.
    found: Option<(String, String)>,
    /// None: it is a file.
    commit: Option<ObjectId>,
}

/// The manifest of a file, or of a commit.
async fn base_manifest(base: &str, dir: &Path) -> Result<BaseManifest, Failure> {
    if Path::new(base).is_file() {
        let text = policy::read_text(Path::new(base), "the manifest")?;
        return Ok(BaseManifest { found: Some((base.to_owned(), text)), commit: None });
    }
    let neither = || {
        Failure::input(format_args!("`{base}` is neither a file nor a commit here"))
            .hint("name a branch such as origin/main, or a file with the manifest as it was")
    };
    let root = Checkout::find(dir).await.ok_or_else(neither)?.root;
    let commit = format!("{base}^{{commit}}");
    let found = Program::git(&root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).run().await;
    let found = found.map_err(Failure::machine)?;
    let id = ObjectId::parse(String::from_utf8_lossy(&found.stdout).trim()).map_err(|_| neither())?;
    for name in manifest::FILE_NAMES {
        let listed = Program::git(&root, &["ls-tree", "--name-only", id.as_str(), "--", name]).run().await;
        if listed.map_err(Failure::machine)?.stdout.is_empty() {
            continue;
        }
        let shown = Program::git(&root, &["cat-file", "blob", &format!("{}:{name}", id.as_str())]).run().await;
        let shown = shown.map_err(Failure::machine)?;
        if shown.code != 0 {
            return Err(Failure::machine(format_args!("git can't show {name} of {base}: {}", shown.complaint())));
        }
        let text = String::from_utf8(shown.stdout);
        let text = text.map_err(|_| Failure::input(format_args!("{base}:{name} is not UTF-8 text")))?;
        return Ok(BaseManifest { found: Some((format!("{base}:{name}"), text)), commit: Some(id) });
    }
    Ok(BaseManifest { found: None, commit: Some(id) })
}
