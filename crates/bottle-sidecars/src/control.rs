//! `bottle-sidecars control VERB`: the runner's way to the bundle, run in it by `exec`. The formats are described in
//! `bottle_wire::control`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use bottle_types::door::Door;
use bottle_wire::control::{Applied, Apply, Call, CredentialsTaken, Decided, SUPERVISE_SOCKET, SUPERVISOR_SOCKET};
use bottle_wire::proposal::Decide;
use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::common::Dirs;
use crate::confirm::{MAX_LINE_BYTES, SupervisorMessage};

/// The answer is a refusal.
const REFUSED: u8 = 1;
/// Nobody answered.
const NO_ANSWER: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct ControlArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every open proposal, then each change, a JSON line each; ends when the door ends.
    Watch,
    /// Print all proposals of the run as JSON.
    List,
    /// Take a decision (JSON) from stdin, and print what came of it.
    Decide,
    /// Take new credentials (JSON) from stdin, put them in force, and print what came of it.
    Credentials,
    /// Print what egress and pipelock have counted, in the format that Prometheus reads.
    Metrics,
    /// Take a policy file from stdin, put it in force, and print what came of it.
    Apply {
        /// Whose policy: egress, pipelock or git-gate.
        #[arg(long, value_name = "NAME", value_parser = door)]
        door: Door,
        /// Who gives it, for the record.
        #[arg(long, value_name = "NAME", default_value = "somebody")]
        user: String,
    },
}

fn door(name: &str) -> Result<Door, String> {
    let door = Door::ALL.into_iter().find(|door| door.name() == name);
    door.ok_or_else(|| format!("there is no door `{name}`: egress, pipelock or git-gate"))
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read standard input: {0}")]
    Input(io::Error),
    #[error("standard input is not a decision: {0}")]
    Decide(serde_json::Error),
    #[error("standard input is no list of credentials")]
    Credentials,
    #[error("the supervisor does not answer: {0}; is the bundle up?")]
    Supervisor(io::Error),
    #[error("supervise does not answer: {0}; is the bundle up?")]
    Nobody(io::Error),
    #[error("the answer is something else than expected: {0}")]
    Answer(serde_json::Error),
    #[error("failed to read {0}: {1}")]
    Log(&'static str, io::Error),
    #[error("failed to print: {0}")]
    Output(io::Error),
}

pub(crate) fn main(dirs: &Dirs, args: ControlArgs) -> ExitCode {
    match run(dirs, args.verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(NO_ANSWER)
        }
    }
}

/// Runs a verb; tells whether the answer is no refusal.
fn run(dirs: &Dirs, verb: Verb) -> Result<bool, Error> {
    match verb {
        Verb::Watch => {
            let mut lines = call(dirs, &Call::Watch)?;
            // By lines and not by blocks: whoever reads this waits for each.
            let mut line = String::new();
            while lines.read_line(&mut line).map_err(Error::Nobody)? > 0 {
                print(&line)?;
                line.clear();
            }
            Ok(true)
        }
        Verb::List => print(&answer(dirs, &Call::List)?).map(|()| true),
        Verb::Decide => {
            let decide: Decide = serde_json::from_str(&input()?).map_err(Error::Decide)?;
            let line = answer(dirs, &Call::Decide(Box::new(decide)))?;
            print(&line)?;
            Ok(matches!(read(&line)?, Decided::Taken(_)))
        }
        Verb::Credentials => {
            // What is said about it must not show a value.
            let updates = serde_json::from_str(&input()?).map_err(|_| Error::Credentials)?;
            let message = SupervisorMessage::Credentials(updates);
            let mut line = String::new();
            ask(dirs, SUPERVISOR_SOCKET, &message)
                .and_then(|mut answer| answer.read_line(&mut line))
                .map_err(Error::Supervisor)?;
            let taken: CredentialsTaken = read(&line)?;
            print(&line)?;
            Ok(matches!(taken, CredentialsTaken::InForce))
        }
        Verb::Metrics => print(&bottle_wire::access::metrics(access_lines(dirs)?.lines())).map(|()| true),
        Verb::Apply { door, user } => {
            let line = answer(dirs, &Call::Apply(Apply { door, text: input()?, user }))?;
            print(&line)?;
            Ok(matches!(read(&line)?, Applied::InForce { .. }))
        }
    }
}

/// The lines of both outgoing doors; of one that is not there, or was not asked for anything, none.
fn access_lines(dirs: &Dirs) -> Result<String, Error> {
    let mut text = String::new();
    for name in ["egress.jsonl", "pipelock.jsonl"] {
        match std::fs::read(dirs.log(name)) {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Log(name, error)),
        }
    }
    Ok(text)
}

fn input() -> Result<String, Error> {
    let mut text = String::new();
    stdin().take(MAX_LINE_BYTES).read_to_string(&mut text).map_err(Error::Input)?;
    Ok(text)
}

fn call(dirs: &Dirs, call: &Call) -> Result<BufReader<UnixStream>, Error> {
    ask(dirs, SUPERVISE_SOCKET, call).map_err(Error::Nobody)
}

/// Says one thing on a socket of the bundle's, and gives the answer's lines.
fn ask(dirs: &Dirs, socket: &str, what: &impl Serialize) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(dirs.internal.join(socket))?;
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(BufReader::new(stream))
}

fn answer(dirs: &Dirs, what: &Call) -> Result<String, Error> {
    let mut line = String::new();
    call(dirs, what)?.read_line(&mut line).map_err(Error::Nobody)?;
    if line.is_empty() { Err(Error::Nobody(io::ErrorKind::UnexpectedEof.into())) } else { Ok(line) }
}

fn read<T: DeserializeOwned>(line: &str) -> Result<T, Error> {
    serde_json::from_str(line).map_err(Error::Answer)
}

fn print(line: &str) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}
