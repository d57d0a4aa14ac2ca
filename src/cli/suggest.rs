//! `bottle-runner suggest`: the smallest change of the manifest that would have let pass what runs were refused. It changes no file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bottle_plan::name::Name;
use bottle_plan::registry::Preset;
use bottle_plan::suggest::{RunRefusals, Suggestions, suggest};
use bottle_types::record_file::RecordFile;
use bottle_wire::access::Access;
use serde::de::DeserializeOwned;
use similar::TextDiff;

use super::extends;
use super::policy::{self, WorkingManifest};
use super::{Context, print, record_dir};
use crate::approve::visible;
use crate::exit::{Code, Failure};
use crate::report::{self, Phase};
use crate::state::{self, RowError};

/// Print the smallest change of the manifest that would have let pass what runs were refused; never applies it.
#[derive(Debug, clap::Args)]
pub(crate) struct SuggestArgs {
    /// Run records' directories, or the slugs of runs on this machine.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Only the offers of these numbers, such as 1,3.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only: Vec<usize>,
    /// The manifest; default: claude-bottle.yml or .github/claude-bottle.yml of this directory, committed or not.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: &SuggestArgs, context: &Context) -> Result<Code, Failure> {
    let records = args.records.iter().map(|record| read(&record_dir(record, context)));
    let records = records.collect::<Result<Vec<_>, Failure>>()?;
    let manifest = WorkingManifest::read(args.manifest.as_deref(), Path::new("."), &Preset::ALL, context).await?;
    let told = suggest(&manifest.source, &records, &manifest.facts);
    let told = told.map_err(|error| policy::failure(&error))?;
    let chosen = chosen(args, &told)?;
    let text = manifest.source.text();
    let edited = told.edit(text, &chosen);
    // A rule that the policy does not allow has its place there, and not in this manifest.
    if let Err(error) = manifest.source.with_text(edited.text.clone()).parse() {
        let failure = extends::failure(&error);
        return Err(failure.hint("have the policy changed, or choose other offers with --only"));
    }
    let name = manifest.source.name().trim_start_matches('/');
    let diff = TextDiff::from_lines(text, &edited.text);
    let diff = diff.unified_diff().header(&format!("a/{name}"), &format!("b/{name}")).to_string();
    if args.json {
        let by_hand: Vec<usize> = edited.by_hand.iter().map(|index| index + 1).collect();
        let value = serde_json::json!({
            "offers": told.offers, "withheld": told.withheld, "diff": diff, "by_hand": by_hand,
        });
        return print(&serde_json::to_string_pretty(&value).map_err(Failure::machine)?);
    }
    print(&lines(&told, (&chosen, &edited.by_hand), &diff))
}

/// The indices that `--only` names; all where it is not given.
fn chosen(args: &SuggestArgs, told: &Suggestions) -> Result<BTreeSet<usize>, Failure> {
    if args.only.is_empty() {
        return Ok((0..told.offers.len()).collect());
    }
    let index = |number: &usize| {
        number
            .checked_sub(1)
            .filter(|index| *index < told.offers.len())
            .ok_or_else(|| Failure::input(format_args!("there is no offer {number}: there are {}", told.offers.len())))
    };
    args.only.iter().map(index).collect()
}

/// What is told, as text that `git apply` takes: it skips what stands before a diff. Every character shows, and none acts.
fn lines(told: &Suggestions, (chosen, by_hand): (&BTreeSet<usize>, &[usize]), diff: &str) -> String {
    let mut text = String::new();
    for (index, offer) in told.offers.iter().enumerate().filter(|(index, _)| chosen.contains(index)) {
        let hand = if by_hand.contains(&index) { " (add it by hand: the file has no place for it)" } else { "" };
        let _ = writeln!(text, "{}. bottle {}: {}{hand}\n   {}", index + 1, offer.bottle, offer.rule, offer.reason);
    }
    for withheld in &told.withheld {
        let _ = writeln!(text, "not offered: {}: {}", withheld.what, withheld.why);
    }
    if told.offers.is_empty() {
        text.push_str("nothing is offered: no refusal that a rule of the manifest would have let pass\n");
    }
    visible(&format!("{text}\n{diff}")).trim_start().to_owned()
}

/// What a record has of refusals. Of the plan two words count, so one of another version will do.
fn read(dir: &Path) -> Result<RunRefusals, Failure> {
    let plan: serde_json::Value = state::value(dir, RecordFile::Plan).map_err(|error| {
        Failure::input(format_args!("{} is no run record: {error}", dir.display())).hint(
            "give the directory that the run named at its end; `bottle-runner ps --all --json` has all of this machine",
        )
    })?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let run = text(&plan["slug"]);
    let agent = Name::parse(&text(&plan["agent"]["name"]))
        .map_err(|error| Failure::input(format_args!("{}: plan.json names no agent: {error}", dir.display())))?;
    let requests: Vec<Access> = rows(dir, RecordFile::Egress)?;
    let pushes = rows(dir, RecordFile::Pushes)?;
    let in_setup = report::requests_in(Phase::Setup, dir, &requests).map_err(|error| unreadable(dir, &error))?;
    Ok(RunRefusals { run, agent, requests, pushes, in_setup })
}

/// The lines of a file; none where a run without this door has no such file. Where one can't be read nothing is made of the record.
fn rows<T: DeserializeOwned>(dir: &Path, file: RecordFile) -> Result<Vec<T>, Failure> {
    state::rows(dir, file).or_else(|error| match error {
        RowError::File { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        error => Err(unreadable(dir, &error)),
    })
}

fn unreadable(dir: &Path, error: &RowError) -> Failure {
    Failure::input(format_args!("{}: {error}", dir.display())).hint(
        "a line that can't be read could be the one that says where a secret was found, so nothing is suggested; leave the record out",
    )
}
