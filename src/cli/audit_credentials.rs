//! `bottle-runner audit-credentials`: where each credential of a run went.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Context, print, record_dir};
use crate::exit::{Code, Failure};
use crate::state::{AuditError, AuditedCredential, CredentialUse, credential_uses};

/// List each credential of a run: where its value came from, and each request and push that it was used for.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditCredentialsArgs {
    /// The run record's directory, or the slug of a run on this machine.
    record: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &AuditCredentialsArgs, context: &Context) -> Result<Code, Failure> {
    let dir = record_dir(&args.record, context);
    let credentials = credential_uses(&dir).map_err(|error| {
        let code = if matches!(error, AuditError::NoRecord(_)) { Code::Input } else { Code::Task };
        Failure::new(code, error).hint("`bottle-runner verify-record` says what else is wrong with a record")
    })?;
    if args.json {
        let value = serde_json::json!({ "record": dir, "credentials": credentials });
        return print(&serde_json::to_string_pretty(&value).map_err(Failure::machine)?);
    }
    let told: Vec<String> = credentials.iter().map(told).collect();
    print(if told.is_empty() { "no credentials\n".to_owned() } else { told.join("\n") }.as_str())
}

fn told(credential: &AuditedCredential) -> String {
    let mut text = match &credential.from {
        Some(from) => format!("{} from {from}, for {}\n", credential.name, credential.used_by.join(", ")),
        None => format!("{}, of a policy that was approved in the run\n", credential.name),
    };
    let mut rows: Vec<(&CredentialUse, &str, usize)> = vec![];
    for used in &credential.uses {
        match rows.iter_mut().find(|(first, _, _)| first.what == used.what && first.outcome == used.outcome) {
            Some((_, last, count)) => (*last, *count) = (&used.time, *count + 1),
            None => rows.push((used, &used.time, 1)),
        }
    }
    for (first, last, count) in rows {
        let _ = write!(text, "  {}", first.time);
        if count > 1 {
            let _ = write!(text, " to {last}, {count} times");
        }
        let _ = writeln!(text, "  {}: {}", first.what, first.outcome);
    }
    if credential.uses.is_empty() {
        text.push_str("  no request and no push\n");
    }
    for unrecorded in &credential.unrecorded {
        let _ = writeln!(text, "  {unrecorded}");
    }
    text
}
