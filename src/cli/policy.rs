//! The manifest in the working tree, ready to be asked what it allows: people try a change before they commit it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bottle_plan::explain::{ExplainError, Explainer, Explanation};
use bottle_plan::facts::{CheckoutFacts, HostFacts};
use bottle_plan::manifest::{self, ManifestSource};
use bottle_plan::name::Name;
use bottle_plan::registry::Preset;
use bottle_types::backend::Backend;

use super::{Context, extends};
use crate::approve::visible;
use crate::exit::Failure;
use crate::host::{self, Base, Checkout};

/// The options that name a manifest and an agent of it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ManifestArgs {
    /// The manifest; default: claude-bottle.yml or .github/claude-bottle.yml of this directory, committed or not.
    #[arg(long, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// The agent in whose bottle it is asked; default: the manifest's own choice.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl ManifestArgs {
    pub(super) fn agent(&self) -> Result<Option<Name>, Failure> {
        self.agent.as_deref().map(Name::parse).transpose().map_err(Failure::input)
    }
}

/// A manifest's text with its policies, and the facts on which its rules depend.
pub(super) struct WorkingManifest {
    pub(super) source: ManifestSource,
    pub(super) facts: HostFacts,
}

impl WorkingManifest {
    /// Reads the manifest of this path, else the one in `dir`; asks the host's package managers about its presets and about `more`.
    pub(super) async fn read(
        path: Option<&Path>,
        dir: &Path,
        more: &[Preset],
        context: &Context,
    ) -> Result<Self, Failure> {
        let (name, text) = manifest_text(path, dir)?;
        let source = extends::source(&name, &text, &context.environment).await?;
        let parsed = extends::manifest(&source)?;
        let own = parsed.bottles.values().flat_map(|bottle| bottle.presets());
        let presets: BTreeSet<Preset> = own.chain(more.iter().copied()).collect();
        let checkout = Checkout::find(dir).await;
        let base = checkout.as_ref().map(Base::of_checkout);
        let facts = HostFacts {
            // No run is started, so names and times are anybody's.
            seed: "0000".to_owned(),
            started_at: "1970-01-01T00:00:00Z".to_owned(),
            state_root: "/".to_owned(),
            home: context.environment.home().map(|home| home.display().to_string()),
            variables: context.environment.names().map(str::to_owned).collect(),
            checkout: checkout.as_ref().map(|checkout| CheckoutFacts {
                path: checkout.root.display().to_string(),
                origin: checkout.origin.as_ref().map(ToString::to_string),
                branch: checkout.branch.clone(),
                head: checkout.head.clone(),
            }),
            backend: Backend::Docker,
            registries: host::registries::gather(presets, base.as_ref(), &context.environment).await,
            ..HostFacts::default()
        };
        Ok(Self { source, facts })
    }

    /// The manifest and the plan of a run of this agent.
    pub(super) fn explainer(&self, agent: Option<Name>) -> Result<Explainer, Failure> {
        Explainer::new(&self.source, agent, &self.facts).map_err(|error| failure(&error))
    }
}

/// Why nothing can be said about a manifest, as a command's end.
pub(super) fn failure(error: &ExplainError) -> Failure {
    let failure = Failure::input(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A file's text; `what` names it in a message.
pub(super) fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).map_err(|error| Failure::input(format_args!("failed to read {what} {shown}: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Failure::input(format_args!("{shown} is not UTF-8 text")))
}

/// The name and the text of the manifest of this path, else of the one in `dir`.
pub(super) fn manifest_text(path: Option<&Path>, dir: &Path) -> Result<(String, String), Failure> {
    match path {
        Some(path) => Ok((path.display().to_string(), read_text(path, "the manifest")?)),
        None => found(dir),
    }
}

fn found(dir: &Path) -> Result<(String, String), Failure> {
    for name in manifest::FILE_NAMES {
        let path = dir.join(name);
        if path.is_file() {
            return Ok((
                path.strip_prefix(".").unwrap_or(&path).display().to_string(),
                read_text(&path, "the manifest")?,
            ));
        }
    }
    Err(Failure::input("there is no claude-bottle.yml in this directory")
        .hint("name one with --manifest, or write one: `bottle-runner init`"))
}

/// An answer for people. Paths, refs and names in it may be an agent's: every character shows, and none acts.
pub(super) fn answer(told: &Explanation) -> String {
    let mut lines = vec![told.asked.clone()];
    let reason = told.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    lines.push(format!("{}{reason}", told.verdict.word()));
    for rule in told.rules() {
        lines.push(format!("  rule:   {rule}"));
        lines.push(format!("          {}", rule.text));
    }
    for (title, texts) in [("why:   ", &told.why), ("change:", &told.change), ("then:  ", &told.then)] {
        lines.extend(texts.iter().map(|text| format!("  {title} {text}")));
    }
    lines.iter().map(|line| visible(&line.replace(['\n', '\t'], " ")) + "\n").collect()
}
