//! `bottle-runner explain`: which rule of a manifest decides, where it stands, and what would change the verdict.

use std::path::PathBuf;

use bottle_plan::explain::{PushAsked, RequestAsked};
use bottle_policy::gate::RepoName;

use super::policy::{ManifestArgs, WorkingManifest, answer, read_text};
use super::{Context, print};
use crate::exit::{Code, Failure};

/// Say which rule decides about a request, a push or an event, where it stands, and what would change that.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("asked").required(true).args(["url", "push", "event"])))]
pub(crate) struct ExplainArgs {
    /// A request to this URL; wss:// for a WebSocket.
    #[arg(long)]
    url: Option<String>,
    /// The method of the request.
    #[arg(long, default_value = "GET", requires = "url")]
    method: String,
    /// A header of the request, such as `Accept: text/html`; may be given several times.
    #[arg(long, value_name = "NAME: VALUE", requires = "url")]
    header: Vec<String>,
    /// The request is sent while the setup runs, not by the agent.
    #[arg(long, requires = "url")]
    setup: bool,
    /// A push of this refspec, as `git push` takes it: refs/heads/x, a branch's name, or :x for a deletion.
    #[arg(long, value_name = "REFSPEC")]
    push: Option<String>,
    /// A path that the pushed commits touch; may be given several times.
    #[arg(long, value_name = "PATH", requires = "push")]
    path: Vec<String>,
    /// The message of a new commit.
    #[arg(long, value_name = "TEXT", requires = "push")]
    message: Option<String>,
    /// Its author and committer; default: the run's own identity.
    #[arg(long, value_name = "NAME <ADDRESS>", requires = "push")]
    author: Option<String>,
    /// The repository's name at the gate; default: the one that the agent works in.
    #[arg(long, value_name = "NAME", requires = "push")]
    repo: Option<String>,
    /// The file with an event's payload as the forge sent it.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// The event's name, such as `issues`, if the payload does not show it.
    #[arg(long, value_name = "NAME", requires = "event")]
    event_name: Option<String>,
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: &ExplainArgs, context: &Context) -> Result<Code, Failure> {
    let manifest = WorkingManifest::read(args.manifest.manifest.as_deref(), ".".as_ref(), &[], context).await?;
    let explainer = manifest.explainer(args.manifest.agent()?)?;
    let told = if let Some(url) = &args.url {
        explainer.request(&request(args, url)?)
    } else if let Some(refspec) = &args.push {
        let repo = args.repo.as_deref().map(RepoName::parse).transpose().map_err(Failure::input)?;
        let (paths, message, author) = (args.path.clone(), args.message.clone(), args.author.clone());
        let asked = PushAsked { repo, paths, message, author, ..PushAsked::new(refspec) };
        explainer.push(&asked).map_err(Failure::input)?
    } else {
        let path = args.event.as_deref().ok_or_else(|| Failure::input("nothing is asked about"))?;
        let payload = read_text(path, "the event")?;
        let told = explainer.event(&payload, args.event_name.as_deref());
        told.map_err(|error| Failure::input(format_args!("{}: {error}", path.display())).hint(error.hint()))?
    };
    match args.json {
        true => print(&serde_json::to_string_pretty(&told).map_err(Failure::machine)?),
        false => print(&answer(&told)),
    }
}

fn request(args: &ExplainArgs, url: &str) -> Result<RequestAsked, Failure> {
    let asked = RequestAsked::new(&args.method, url).map_err(Failure::input)?.in_setup(args.setup);
    args.header.iter().try_fold(asked, |asked, header| {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Failure::input(format_args!("`{header}` is no header")).hint("write it as --header 'Accept: text/html'")
        })?;
        Ok(asked.header(name.trim(), value.trim()))
    })
}
