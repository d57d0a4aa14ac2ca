//! Commands from outside the guest: `forward --control` takes them on the listening unix socket that is its standard input.
//!
//! A connection is one command. It brings three descriptors (standard input, output, error) with the first of four bytes
//! of length, then that many bytes: working directory, number of arguments, arguments, `NAME=VALUE`s, each ended by a zero
//! byte. The answer, once the command has ended, is its exit code as a line; to no arguments at all it is 0 at once, which
//! says that commands are taken. The socket has no name in here, so nobody in the guest can send commands this way.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::sys;

/// No command is longer; Linux itself takes 2 MiB at most.
const LONGEST: usize = 4 << 20;
/// As a shell says that a command is not there, or can't be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// The commands that come in, and those that run.
pub(crate) struct ControlChannel {
    listener: UnixListener,
    requests: Vec<Request>,
}

struct Request {
    stream: UnixStream,
    fds: Vec<OwnedFd>,
    bytes: Vec<u8>,
    pid: Option<i32>,
}

impl ControlChannel {
    /// Takes over standard input.
    pub(crate) fn take() -> io::Result<Self> {
        let listener = UnixListener::from(sys::take_stdin()?);
        listener.set_nonblocking(true)?;
        // What runs in the guest must not reach into this process for its descriptors.
        sys::hide()?;
        Ok(Self { listener, requests: vec![] })
    }

    /// The descriptors to watch: the listener, then whoever has not sent its command yet.
    pub(crate) fn watched(&self) -> impl Iterator<Item = RawFd> {
        let waiting = self.requests.iter().filter(|request| request.pid.is_none());
        std::iter::once(self.listener.as_raw_fd()).chain(waiting.map(|request| request.stream.as_raw_fd()))
    }

    /// Takes what has come.
    pub(crate) fn step(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.requests.push(Request { stream, fds: vec![], bytes: vec![], pid: None });
            }
        }
        self.requests.retain_mut(|request| request.pid.is_some() || request.step());
    }

    /// Tells whoever waits for one of these processes.
    pub(crate) fn ended(&mut self, ends: &[(i32, i32)]) {
        self.requests.retain_mut(|request| {
            let Some((_, code)) = ends.iter().find(|(pid, _)| request.pid == Some(*pid)) else { return true };
            request.answer(*code);
            false
        });
    }
}

impl Request {
    /// Reads on, and starts the command when it is whole; whether there is more to do.
    fn step(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            let read = if self.fds.is_empty() {
                sys::receive(&self.stream, &mut buffer, &mut self.fds)
            } else {
                self.stream.read(&mut buffer)
            };
            match read {
                Ok(0) => return false,
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { continue };
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST || rest.len() > length {
                return false;
            }
            if rest.len() == length {
                return self.start();
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the guest's own one place: src/process.rs is the host side's")]
    fn start(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(std::mem::take(&mut self.fds)) else { return false };
        let Some(words) = parse(&bytes[4..]) else { return false };
        if words.argv.is_empty() {
            self.answer(0);
            return false;
        }
        let Ok(complaints) = stderr.try_clone() else { return false };
        let mut command = Command::new(words.argv[0]);
        command
            .args(&words.argv[1..])
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr));
        command.process_group(0);
        sys::unblock_signals(&mut command);
        if !words.dir.is_empty() {
            command.current_dir(words.dir);
        }
        command.envs(words.env);
        match command.spawn() {
            // It is waited for with all other processes of the guest.
            Ok(child) => {
                self.pid = i32::try_from(child.id()).ok();
                true
            }
            Err(error) => {
                let program = words.argv[0].to_string_lossy();
                let said = format!("bottle-link: failed to run {program}: {error}\n");
                // Whoever asked may be gone.
                let _ = std::fs::File::from(complaints).write_all(said.as_bytes());
                self.answer(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE });
                false
            }
        }
    }

    fn answer(&mut self, code: i32) {
        // A line fits into any socket's buffer; whoever asked may be gone.
        let _ = self.stream.write_all(format!("{code}\n").as_bytes());
    }
}

struct Words<'a> {
    dir: &'a OsStr,
    argv: Vec<&'a OsStr>,
    env: Vec<(&'a OsStr, &'a OsStr)>,
}

fn parse(bytes: &[u8]) -> Option<Words<'_>> {
    let bytes = bytes.strip_suffix(&[0])?;
    let mut words = bytes.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let dir = words.next()?;
    let count: usize = words.next()?.to_str()?.parse().ok()?;
    let argv: Vec<&OsStr> = words.by_ref().take(count).collect();
    if argv.len() != count {
        return None;
    }
    let env = words.map(|word| {
        let word = word.as_bytes();
        let at = word.iter().position(|byte| *byte == b'=')?;
        Some((OsStr::from_bytes(&word[..at]), OsStr::from_bytes(&word[at + 1..])))
    });
    Some(Words { dir, argv, env: env.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_command_is_whole_or_none() {
        let words = parse(b"/tmp\x002\0sh\0-c\0A=b=c\0").expect("a command");
        assert_eq!((words.dir, words.argv.len(), words.env[0]), ("/tmp".as_ref(), 2, ("A".as_ref(), "b=c".as_ref())));
        assert!(parse(b"/\x000\0").is_some_and(|words| words.argv.is_empty()), "a question");
        for bad in [&b""[..], b"/\x002\0sh\0", b"/\0x\0sh\0", b"/\x001\0sh", b"/\x001\0sh\0novalue\0"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
