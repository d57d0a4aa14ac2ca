//! `bottle-runner sign-record`: an attestation about a record, by a key that no guest has.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Metadata;

use super::{Context, print, record_dir};
use crate::backend;
use crate::exit::{Code, Failure};
use crate::state::{self, SigningKey};

/// Sign a run record: writes attestation.dsse.json beside its files.
///
/// It is an in-toto statement about the pushed commit and the record's files, in a DSSE envelope. A record that does not hold is not
/// signed.
#[derive(Debug, clap::Args)]
pub(crate) struct SignRecordArgs {
    /// The run record's directory, or the slug of a run on this machine.
    record: PathBuf,
    /// The file of an Ed25519 key, as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn main(args: &SignRecordArgs, context: &Context) -> Result<Code, Failure> {
    let dir = record_dir(&args.record, context);
    let key = SigningKey::parse(&key_file(&args.key)?).map_err(|why| {
        Failure::input(format_args!("failed to read the key {}: {why}", args.key.display()))
            .hint("`openssl genpkey -algorithm ed25519 -out FILE` makes one")
    })?;
    let checked = state::check(&dir, backend::record_files).ok_or_else(|| {
        Failure::input(format_args!("{} is no run record: it has no metadata.json", dir.display()))
            .hint("give the directory that the run named at its end")
    })?;
    if let Some(problem) = checked.problems.first() {
        return Err(Failure::new(
            Code::Task,
            format_args!("{} is not signed, as it does not hold: {problem}", dir.display()),
        )
        .hint("`bottle-runner verify-record` says everything that is wrong with it"));
    }
    let metadata: Metadata = state::value(&dir, RecordFile::Metadata).map_err(Failure::machine)?;
    let (text, signed) = state::sign(&dir, &metadata, &key)
        .map_err(|why| Failure::machine(format_args!("failed to sign {}: {why}", dir.display())))?;
    write_new(&dir.join(RecordFile::Attestation), &text)?;
    let about = signed.commit.map_or_else(String::new, |commit| format!("commit {commit} and "));
    print(&format!("{}: signed {about}{} files by the key {}\n", checked.slug, signed.files, signed.keyid))
}

/// The bytes of a key's file.
pub(super) fn key_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::input(format_args!("failed to read the key {}: {error}", path.display())))
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(|error| {
        let failure = Failure::machine(format_args!("failed to write {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                failure.hint("the record is signed already; remove the file to sign it anew")
            }
            _ => failure,
        }
    })?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::machine(format_args!("failed to write {}: {error}", path.display())))
}
