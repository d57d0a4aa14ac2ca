//! `bottle-runner verify-record`: whether a run record is complete and tells one story.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::sign_record::key_file;
use super::{Context, print, record_dir};
use crate::backend;
use crate::exit::{Code, Failure};
use crate::state::{self, PublicKey};

/// Check that a run record is complete and consistent, its chain of hashes unbroken, and with a key, that it is signed.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyRecordArgs {
    /// The run record's directory, or the slug of a run on this machine.
    record: PathBuf,
    /// The file of the public key by which the record has to be signed, as `openssl pkey -pubout` writes it.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The commit that the attestation has to be about; without it, the one that metadata.json names.
    #[arg(long, value_name = "ID", requires = "public_key")]
    commit: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &VerifyRecordArgs, context: &Context) -> Result<Code, Failure> {
    let dir = record_dir(&args.record, context);
    let key = args.public_key.as_deref().map(public_key).transpose()?;
    let mut checked = state::check(&dir, backend::record_files).ok_or_else(|| {
        Failure::input(format_args!("{} is no run record: it has no metadata.json", dir.display())).hint(
            "give the directory that the run named at its end; `bottle-runner ps --all --json` has all of this machine",
        )
    })?;
    let attested = key.and_then(|key| {
        let (attested, problems) = state::check_attestation(&dir, &key, args.commit.as_deref());
        checked.problems.extend(problems);
        attested
    });
    let proposals = &checked.proposals;
    if args.json {
        let value = serde_json::json!({
            "record": dir, "slug": checked.slug, "holds": checked.problems.is_empty(), "files": checked.files,
            "proposals": {"asked": proposals.asked, "granted": proposals.granted, "denied": proposals.denied, "open": proposals.open, "applied": proposals.applied},
            "attested": attested, "problems": checked.problems,
        });
        print(&serde_json::to_string_pretty(&value).map_err(Failure::machine)?)?;
    } else {
        let mut text = String::new();
        for problem in &checked.problems {
            let _ = writeln!(text, "{problem}");
        }
        if checked.problems.is_empty() {
            let _ = writeln!(text, "{}: the record holds: {} files looked into", checked.slug, checked.files);
            let _ = writeln!(
                text,
                "proposals: {} asked, {} granted, {} denied, {} open; {} policies applied, and those at the end are what they lead to",
                proposals.asked, proposals.granted, proposals.denied, proposals.open, proposals.applied
            );
            if let Some(attested) = &attested {
                let about = attested.commit.as_ref().map_or_else(String::new, |commit| format!("commit {commit} and "));
                let _ = writeln!(text, "signed: {about}{} files by the key {}", attested.files, attested.keyid);
            }
        }
        print(&text)?;
    }
    match checked.problems.len() {
        0 => Ok(Code::Done),
        n => Err(Failure::new(
            Code::Task,
            format_args!("{} does not hold: {n} problem{}", dir.display(), if n == 1 { "" } else { "s" }),
        )
        .hint("each line above names the file; docs/reference/run-record.md says what belongs in it")),
    }
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::parse(&key_file(path)?).map_err(|why| {
        Failure::input(format_args!("failed to read the key {}: {why}", path.display()))
            .hint("`openssl pkey -in KEY -pubout -out FILE` writes the public half of a key")
    })
}
