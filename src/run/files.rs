//! The files that the agent has handed in, read out of the guest after its end. Whether they may go out is judged later.
//!
//! Always: a file is read by a program of the guest, in the guest, as the agent's user: what a link leads to is the guest's own. So
//! many bytes are taken as the manifest grants, whatever the guest sends.

use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_policy::outputs::Output;

use super::outputs::{asked, noted};
use crate::backend::{Bottle, BottleError, Exec, OutputChunk};
use crate::exit::Failure;

/// One file takes no longer.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Prints the file `$3` of the directory `$2`, which is in `$1`, up to `$4` bytes. A link is no file, and no directory on the way may be
/// one.
const READING: &str = r#"cd -P -- "$1" || exit 3
top=$(pwd -P)
cd -P -- "./$2" || exit 4
[ "$(pwd -P)" = "$top${2:+/$2}" ] || exit 5
[ ! -L "./$3" ] || exit 5
[ -f "./$3" ] || exit 4
exec head -c "$4" -- "./$3""#;

/// What is run in the guest to read a file.
pub(super) fn reading(workdir: &str, path: &str, most: u64) -> Vec<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    ["sh", "-c", READING, "sh", workdir, dir, name, &most.to_string()].map(str::to_owned).to_vec()
}

/// The files of a run: each path with its content, or why it could not be had.
pub(super) type TakenFiles = Vec<(String, Result<Vec<u8>, String>)>;

/// Reads what was handed in, as the door has noted it.
pub(super) async fn take(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<TakenFiles, Failure> {
    let rules = plan.policies.supervise.outputs.as_ref().and_then(|policy| policy.rules.file.as_ref());
    let Some(rules) = rules else { return Ok(vec![]) };
    // Nothing may change them under our hands.
    bottle.signal("KILL").await.map_err(Failure::machine)?;
    let (mut left, mut taken) = (rules.max_bytes.0, vec![]);
    // Of a record that can't be read there are none, and its end says so.
    let handed_in = asked(noted(bottle, plan).await.unwrap_or_default());
    let files = handed_in.into_iter().filter_map(|(_, output)| match output {
        Output::File { path } => Some(path),
        _ => None,
    });
    // The runner's judge takes no more either.
    for path in files.take(rules.max as usize) {
        let too_long = "with it the files are larger than `outputs.file.max_bytes`";
        let content = read(bottle, &plan.guest.workdir, &path, (left, too_long)).await;
        left -= content.as_ref().map_or(0, |bytes| bytes.len() as u64);
        taken.push((path, content));
    }
    Ok(taken)
}

/// Reads a file below a directory of the guest, of at most so many bytes.
pub(super) async fn read(
    bottle: &dyn Bottle,
    top: &str,
    path: &str,
    (most, too_long): (u64, &str),
) -> Result<Vec<u8>, String> {
    match printed(bottle, reading(top, path, most + 1), (most, too_long)).await? {
        (bytes, 0) => Ok(bytes),
        (_, 5) => Err("it is a link, or behind one".to_owned()),
        (_, 4) => Err("there is no such file".to_owned()),
        (_, code) => Err(format!("reading it ended with {code}")),
    }
}

/// Runs a program in the guest. Gives what it has printed, of at most so many bytes, and its exit code.
pub(super) async fn printed(
    bottle: &dyn Bottle,
    argv: Vec<String>,
    (most, too_long): (u64, &str),
) -> Result<(Vec<u8>, i64), String> {
    let exec = Exec::guest(argv).in_dir("/");
    let reading = async {
        let mut running = bottle.exec(exec).await?;
        let mut bytes = vec![];
        while let Some(chunk) = running.output.recv().await {
            if let OutputChunk::Stdout(more) = chunk {
                bytes.extend_from_slice(&more);
            }
            if bytes.len() as u64 > most {
                break;
            }
        }
        let is_long = bytes.len() as u64 > most;
        let code = match is_long {
            true => 0,
            false => {
                running.code.await.map_err(|_| BottleError::new("failed to learn the exit code", "it went away"))??
            }
        };
        Ok::<_, BottleError>((bytes, is_long, code))
    };
    match tokio::time::timeout(bottle.patience(READ_TIMEOUT), reading).await {
        Err(_) => Err(format!("it could not be read within {} s", READ_TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(super::one_line(&error.to_string())),
        Ok(Ok((_, true, _))) => Err(too_long.to_owned()),
        Ok(Ok((bytes, false, code))) => Ok((bytes, code)),
    }
}
