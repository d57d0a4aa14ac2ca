//! From what was typed to a plan: the task, the manifest of the base branch, the facts.

use std::path::{Path, PathBuf};

use bottle_plan::event::{self, Asked, Order};
use bottle_plan::facts::{Ci, ForgeKind, HostFacts};
use bottle_plan::manifest::{self, Manifest};
use bottle_plan::name::Name;
use bottle_plan::plan::{BackendChoice, BottlePlan, Options};
use bottle_plan::task::Task;

use super::Context;
use crate::exit::{Code, Failure};
use crate::facts::{self, Checkout, Environment};

/// What both `run` and `plan` take.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TaskArgs {
    /// The forge's webhook payload; in Actions taken from GITHUB_EVENT_PATH.
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub(crate) event: Option<PathBuf>,
    /// The event's kind, such as `issues`, where its content does not tell; in Actions GITHUB_EVENT_NAME.
    #[arg(long, value_name = "NAME", requires = "event")]
    pub(crate) event_name: Option<String>,
    /// What is to be done, in words.
    #[arg(long, value_name = "TEXT")]
    pub(crate) task: Option<String>,
    /// The manifest's agent.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Bring this checkout into the bottle instead of cloning through the gate.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// The manifest; default: claude-bottle.yml or .github/claude-bottle.yml of the base branch.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Where the bottle runs.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = BackendArg::Auto)]
    pub(crate) backend: BackendArg,
    /// Answer the model from a run record's cassette, or from a cassette file: no key, no cost.
    #[arg(long, value_name = "RECORD")]
    pub(crate) replay: Option<PathBuf>,
    /// The guest's image, instead of the manifest's.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// The backends by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BackendArg {
    #[default]
    Auto,
    Docker,
    Smolmachines,
    Bubblewrap,
}

/// A plan, and what making it looked up.
pub(crate) struct Planned {
    pub(crate) plan: BottlePlan,
    pub(crate) checkout: Option<Checkout>,
}

/// A plan, or a reason why there is nothing to do.
pub(crate) enum Asks {
    Plan(Box<Planned>),
    Nothing(String),
}

/// Makes the plan.
pub(crate) async fn plan(args: &TaskArgs, dry_run: bool, context: &Context) -> Result<Asks, Failure> {
    let environment = &context.environment;
    let here = PathBuf::from(".");
    let dir = args.cwd.as_deref().unwrap_or(&here);
    if !dir.is_dir() {
        return Err(
            Failure::input(format_args!("{} is not a directory", dir.display())).hint("give --cwd a git checkout")
        );
    }
    let checkout = Checkout::find(dir).await;
    if args.cwd.is_some() && checkout.is_none() {
        return Err(Failure::input(format_args!("{} is not in a git checkout", dir.display()))
            .hint("leave out --cwd to clone through the gate"));
    }
    let manifest = read_manifest(args, checkout.as_ref(), dir).await?;
    let task = match read_task(args, &manifest, environment)? {
        Asked::Task(task) => *task,
        Asked::Nothing(why) => return Ok(Asks::Nothing(why)),
        Asked::Command(command) => {
            let (what, hint) = match command.order {
                Order::Stop => ("stopping a run", "cancel its job"),
                Order::Retry => ("doing a task again", "write the command of the task once more"),
                Order::Approve(_) | Order::Deny { .. } => {
                    ("deciding about a proposal", "change the manifest on the base branch, and ask for the task again")
                }
            };
            return Err(Failure::input(format_args!("{what} by a comment is not in this version")).hint(hint));
        }
        Asked::Refused(why) => {
            return Err(Failure::new(Code::Refused, why).hint("`triggers.who` in claude-bottle.yml says who may ask"));
        }
    };
    let facts = host_facts(checkout.as_ref(), environment)?;
    if facts.ci.is_some() && task.asked_by.is_some() {
        // Asking the forge for the actor's permission comes with the forge's API; until then nobody has it.
        return Err(Failure::new(
            Code::Refused,
            "who asked can't be checked: this version does not ask the forge for permissions yet",
        )
        .hint("run it by hand with --event, or wait for the version that does"));
    }
    let agent = args.agent.as_deref().map(Name::parse).transpose().map_err(Failure::input)?;
    let options = Options {
        agent,
        backend: match args.backend {
            BackendArg::Auto => BackendChoice::Auto,
            BackendArg::Docker => BackendChoice::Docker,
            BackendArg::Smolmachines => BackendChoice::Smolmachines,
            BackendArg::Bubblewrap => BackendChoice::Bubblewrap,
        },
        dry_run,
        replay: args.replay.as_ref().map(|path| path.display().to_string()),
        bring_checkout: args.cwd.is_some(),
        image: args.image.clone(),
        ..Options::default()
    };
    let plan = bottle_plan::plan::plan(&task, &manifest, &facts, &options).map_err(|error| {
        let failure = Failure::input(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(Asks::Plan(Box::new(Planned { plan, checkout })))
}

async fn read_manifest(args: &TaskArgs, checkout: Option<&Checkout>, dir: &Path) -> Result<Manifest, Failure> {
    let (name, bytes) = find_manifest(args, checkout, dir).await?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::input(format_args!("{name} is not UTF-8 text")))?;
    manifest::parse(&text, &name).map_err(|error| {
        let failure = Failure::input(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

async fn find_manifest(args: &TaskArgs, checkout: Option<&Checkout>, dir: &Path) -> Result<(String, Vec<u8>), Failure> {
    if let Some(path) = &args.manifest {
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::input(format_args!("failed to read the manifest {}: {error}", path.display())))?;
        return Ok((path.display().to_string(), bytes));
    }
    for name in manifest::FILE_NAMES {
        match checkout {
            // From the base branch: a proposed change must not change its own rules.
            Some(checkout) if checkout.base.is_some() => {
                if let Some(bytes) = checkout.base_file(name).await {
                    return Ok((name.to_owned(), bytes));
                }
            }
            _ => {
                if let Ok(bytes) = std::fs::read(dir.join(name)) {
                    return Ok((name.to_owned(), bytes));
                }
            }
        }
    }
    let (place, hint) = match checkout {
        // Where it is read from is what people miss: a file in the working tree does not count.
        Some(checkout) => (
            format!("the base branch of this checkout ({})", checkout.base_name()),
            "commit one there (`bottle-runner schema` describes it), or try one out with --manifest FILE",
        ),
        None => (
            "this directory".to_owned(),
            "write one (`bottle-runner schema` describes it) and commit it, or name one with --manifest",
        ),
    };
    Err(Failure::input(format_args!("there is no claude-bottle.yml in {place}")).hint(hint))
}

fn read_task(args: &TaskArgs, manifest: &Manifest, environment: &Environment) -> Result<Asked, Failure> {
    if let Some(text) = &args.task {
        if text.trim().is_empty() {
            return Err(Failure::input("the task is empty").hint("say what is to be done: --task \"…\""));
        }
        return Ok(Asked::Task(Box::new(Task::text(text))));
    }
    let path = args.event.clone().or_else(|| environment.get("GITHUB_EVENT_PATH").map(PathBuf::from));
    let Some(path) = path else {
        return Err(Failure::input("there is no task").hint("give --task TEXT, or --event FILE with a webhook payload"));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::input(format_args!("failed to read the event {}: {error}", path.display()))
            .hint("give --event a file with the forge's webhook payload")
    })?;
    let kind = match &args.event {
        Some(_) => args.event_name.as_deref(),
        None => environment.get("GITHUB_EVENT_NAME"),
    };
    event::parse(&text, kind, &manifest.triggers)
        .map_err(|error| Failure::input(format_args!("{}: {error}", path.display())).hint(error.hint()))
}

fn host_facts(checkout: Option<&Checkout>, environment: &Environment) -> Result<HostFacts, Failure> {
    let state_root = environment.state_root().ok_or_else(|| {
        Failure::machine("there is no place for run records: HOME is not set")
            .hint("set BOTTLE_STATE_DIR to a directory")
    })?;
    let state_root = std::path::absolute(&state_root).map_err(Failure::machine)?;
    Ok(HostFacts {
        seed: facts::seed(),
        started_at: facts::now(),
        state_root: state_root.display().to_string(),
        home: environment.home().map(|home| home.display().to_string()),
        variables: environment.names().map(str::to_owned).collect(),
        checkout: checkout.map(|checkout| bottle_plan::facts::Checkout {
            path: checkout.root.display().to_string(),
            origin: checkout.origin.clone(),
            branch: checkout.branch.clone(),
            head: checkout.head.clone(),
        }),
        ci: ci(environment),
        host_ca_bundle: environment.ca_bundle().map(|path| path.display().to_string()),
    })
}

/// The job of GitHub Actions, Gitea or Forgejo that this is, if it is one.
fn ci(environment: &Environment) -> Option<Ci> {
    environment.get("GITHUB_ACTIONS")?;
    let forge = if environment.get("GITEA_ACTIONS").is_some() { ForgeKind::Gitea } else { ForgeKind::Github };
    Some(Ci {
        forge,
        server_url: environment.get("GITHUB_SERVER_URL")?.to_owned(),
        repository: environment.get("GITHUB_REPOSITORY")?.to_owned(),
        run_id: environment.get("GITHUB_RUN_ID").unwrap_or_default().to_owned(),
        branch: environment.get("GITHUB_REF_NAME").map(str::to_owned),
    })
}
