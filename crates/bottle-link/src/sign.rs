//! What git takes for ssh-keygen(1): a signature comes from the gate, which has the key. Everything else that git asks of such a program
//! needs no key, and the guest's own ssh-keygen does it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::cli::Sign;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the gate takes for a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The gate signs nothing larger, and says so; what is larger is not sent.
const MAX_BYTES: u64 = 1 << 20;
/// The longest packet of git's (gitprotocol-common(5)).
const MAX_ANSWER_BYTES: u64 = 65_520;

/// Why there is no signature.
#[derive(Debug)]
pub(crate) enum SignError {
    /// The file to be signed, or that of the signature.
    File(OsString, io::Error),
    /// More than any commit.
    Large(u64),
    /// The gate can't be reached, or does not answer.
    Gate(SocketAddr, io::Error),
    /// The answer is none of the gate's.
    Answer,
    /// The gate's own reason.
    Refused(String),
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Large(size) => write!(f, "{size} bytes, and a commit of at most {MAX_BYTES} is signed"),
            Self::Gate(address, error) => write!(f, "no signature from the gate at {address}: {error}"),
            Self::Answer => write!(f, "the gate's answer to a request for a signature can't be read"),
            Self::Refused(reason) => write!(f, "{reason}"),
        }
    }
}

/// Has the gate sign a file, and writes the signature beside it, as ssh-keygen does.
pub(crate) fn run(options: &Sign) -> Result<(), SignError> {
    let of_file = |error| SignError::File(options.file.clone(), error);
    let size = fs::metadata(&options.file).map_err(of_file)?.len();
    if size > MAX_BYTES {
        return Err(SignError::Large(size));
    }
    let bytes = fs::read(&options.file).map_err(of_file)?;
    let answer = ask(options, &bytes).map_err(|error| SignError::Gate(options.gate, error))?;
    let signature = signature(&answer)?;
    let mut beside = options.file.clone();
    beside.push(".sig");
    fs::write(&beside, signature).map_err(|error| SignError::File(beside, error))
}

fn ask(options: &Sign, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&options.gate, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let line = format!("bottle-sign 1 {} {}\n", options.namespace, bytes.len());
    let head = format!("{:04x}{line}", line.len() + 4);
    // A gate that refuses may stop reading before the end, and has answered.
    let sent = stream.write_all(&[head.as_bytes(), bytes].concat()).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = vec![];
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        read?;
    }
    Ok(answer)
}

/// The signature in a packet `ok`; the reason in one that begins with `ERR`.
fn signature(answer: &[u8]) -> Result<&str, SignError> {
    let text = std::str::from_utf8(answer).map_err(|_| SignError::Answer)?;
    let (length, packet) = text.split_at_checked(4).ok_or(SignError::Answer)?;
    if usize::from_str_radix(length, 16) != Ok(text.len()) {
        return Err(SignError::Answer);
    }
    if let Some(reason) = packet.strip_prefix("ERR ") {
        return Err(SignError::Refused(reason.to_owned()));
    }
    packet.strip_prefix("ok\n").ok_or(SignError::Answer)
}

/// Becomes the guest's ssh-keygen; returns only if it has none.
#[expect(clippy::disallowed_methods, reason = "the link stands below src/process.rs, and becomes this program")]
pub(crate) fn keygen(args: &[OsString]) -> io::Error {
    Command::new("ssh-keygen").args(args).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_packet_with_a_signature_or_a_reason() {
        let packet = |text: &str| format!("{:04x}{text}", text.len() + 4).into_bytes();
        assert_eq!(signature(&packet("ok\nSIG\n")).ok(), Some("SIG\n"));
        assert!(
            matches!(signature(&packet("ERR git-gate: no")), Err(SignError::Refused(why)) if why == "git-gate: no")
        );
        for answer in [&b""[..], b"0007ok", b"0008ok\nSIG\n", b"\xff\xff\xff\xff", b"0009SIG\n\n"] {
            assert!(matches!(signature(answer), Err(SignError::Answer)), "{answer:?}");
        }
    }
}
