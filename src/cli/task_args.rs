//! What may be typed for a task.

use std::path::PathBuf;

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
    /// In a job: do this issue, as the forge has it now.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["task", "event"])]
    pub(crate) issue: Option<u64>,
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
    /// In a job: push and propose the work in this run record of another job's dry run; no agent runs. The gate judges it anew.
    #[arg(long, value_name = "RECORD", conflicts_with = "replay")]
    pub(crate) publish: Option<PathBuf>,
    /// Take up a run: its image gets what people granted there (`request_capability`), its task is done again unless another is given.
    #[arg(long, value_name = "RECORD", conflicts_with = "publish")]
    pub(crate) resume: Option<PathBuf>,
    /// The guest's image, instead of the manifest's.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

impl TaskArgs {
    /// The options that make the same task again.
    pub(crate) fn again(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("--event", path(&self.event)),
            ("--event-name", self.event_name.clone()),
            ("--task", self.task.as_ref().map(|text| format!("'{}'", text.replace('\'', "'\\''")))),
            ("--agent", self.agent.clone()),
            ("--cwd", path(&self.cwd)),
            ("--manifest", path(&self.manifest)),
            ("--resume", path(&self.resume)),
            ("--image", self.image.clone()),
        ];
        given.into_iter().filter_map(|(option, value)| Some(format!(" {option} {}", value?))).collect()
    }

    /// True if it is left to something else what is to be done.
    pub(crate) fn names_no_task(&self) -> bool {
        self.event.is_none() && self.task.is_none() && self.issue.is_none()
    }
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
