//! The options that name a task.

use std::path::PathBuf;

use bottle_types::backend::Backend;
use bottle_types::text::shell_word;

/// The options of both `run` and `plan`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TaskArgs {
    /// The file with the forge's webhook payload; in Actions it is GITHUB_EVENT_PATH by default.
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub(crate) event: Option<PathBuf>,
    /// The event's name, such as `issues`, if the payload does not show it; in Actions it is GITHUB_EVENT_NAME.
    #[arg(long, value_name = "NAME", requires = "event")]
    pub(crate) event_name: Option<String>,
    /// The task in words.
    #[arg(long, value_name = "TEXT")]
    pub(crate) task: Option<String>,
    /// In a job: do this issue, as the forge has it now.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["task", "event"])]
    pub(crate) issue: Option<u64>,
    /// In a job: do the oldest open issue with this label that no run has taken up. Who gave the label asks.
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["task", "event", "issue", "publish"])]
    pub(crate) oldest_issue: Option<String>,
    /// The agent of the manifest that does the task.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Bring this checkout into the bottle instead of cloning through the gate.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// The manifest; default: claude-bottle.yml or .github/claude-bottle.yml of the base branch.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// The backend that runs the bottle.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = BackendArg::Auto)]
    pub(crate) backend: BackendArg,
    /// Answer the model from a run record's cassette, or from a cassette file: no key, no cost.
    #[arg(long, value_name = "RECORD")]
    pub(crate) replay: Option<PathBuf>,
    /// In a job: push and propose the work that another job's dry run left in this run record. The gate judges it again; no agent runs.
    #[arg(long, value_name = "RECORD", conflicts_with = "replay")]
    pub(crate) publish: Option<PathBuf>,
    /// Do the task of this run again, or another if one is given, with the image that people granted in it (`request_capability`).
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
            ("--task", self.task.as_deref().map(shell_word)),
            ("--agent", self.agent.clone()),
            ("--cwd", path(&self.cwd)),
            ("--manifest", path(&self.manifest)),
            ("--resume", path(&self.resume)),
            ("--image", self.image.clone()),
        ];
        given.into_iter().filter_map(|(option, value)| Some(format!(" {option} {}", value?))).collect()
    }

    /// True if no option names the task.
    pub(crate) fn names_no_task(&self) -> bool {
        self.event.is_none() && self.task.is_none() && self.issue.is_none() && self.oldest_issue.is_none()
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

impl BackendArg {
    /// The backend; none: what is best on this machine.
    pub(crate) fn backend(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Docker => Some(Backend::Docker),
            Self::Smolmachines => Some(Backend::Smolmachines),
            Self::Bubblewrap => Some(Backend::Bubblewrap),
        }
    }
}
