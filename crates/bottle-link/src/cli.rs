//! Arguments.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg::{self, Long, Short, Value};
use lexopt::{Parser, ValueExt as _};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
The guest's end of the doors of a bottle.

Usage:
  bottle-link forward [--doors DIR] [--as-init] [--control] [limits] PORT=SOCKET...
      Listen on 127.0.0.1:PORT and forward each connection to the unix socket of that name in DIR.
      --address IPV4   listen on this address instead, and give it to the loopback interface first
      --doors DIR   where the sockets are [default: /run/bottle]
      --serve PORT=SOCKET   the other way round, for what listens on 127.0.0.1:PORT beside this link: make the unix socket of
                    that name in DIR as soon as PORT takes connections, and forward to it; only where there is no network
      --serve-fd PORT=N     the same with a unix socket that was made outside and is descriptor N
      --as-init     be PID 1: reap orphans, end at once on SIGTERM or SIGINT
      --control     run the commands that come in on the listening unix socket that is standard input; no door is needed
      --most-data BYTES, --most-processes N, --most-cpus N
                    limits for everything that is run: data of each process, processes, processors

  bottle-link confine --user UID:GID [--filter FILE]... [limits] -- COMMAND [ARGUMENT]...
      Become that user for good, without capabilities and without new privileges, and run the command.
      --filter FILE   a seccomp program to be under: an array of sock_filter (repeatable)

  bottle-link outside [--join FILE]... [--write FILE]... [--read FILE]... [--bind FILE]... [--user ID] -- COMMAND [ARGUMENT]...
      On the host: open files as numbers 3, 4 and so on, become that user for good, and run the command.
      --join FILE     write 0 to it first: the `tasks` or `cgroup.procs` of a control group (repeatable)
      --write FILE    a file to be made and written; all of these come first (repeatable)
      --read FILE     a file to be read (repeatable)
      --bind FILE     a unix socket to be made, for whoever listens on it; all of these come last (repeatable)

  bottle-link selftest [--json] [options]
      Try each way out of this guest. Exit code 0: all are closed; 1: one works, or can't be told.
      --json                 a JSON line a case: case, ok, detail, ms
      --doors DIR            where the sockets are [default: /run/bottle]
      --door PORT=SOCKET     a declared door: it must answer, and no other port may listen (repeatable)
      --doors-alone          try no way out, but wait for the doors only
      --wait SECONDS         how long the doors may take to answer [default: 10]
      --canary FILE          send the secret in this file through each door, which must refuse it for that very secret; through the
                             gate as the push that standard input has
      --host-address ADDR:PORT   an address of the host that must not be reachable (repeatable)
      --allow ADDR           an address that may be reached: no --host-address case is made of it (repeatable)
      --tools DIR            where a read-only volume may be mounted [default: /opt/claude-bottle]
      --tmpfs DIR            where a tmpfs may be mounted, besides /tmp, /run, /var/tmp and /dev (repeatable)
      --lent DIR             what of the host may be mounted read-only, here or below (repeatable)
      --machine IPV4         this guest is a machine of its own whose doors are at this address: it has an interface, and
                             nothing but the doors' ports may answer through it
      --image SOURCE         what is mounted read-only from this device and directory, each part at its own place, is the
                             guest's own system: MAJOR:MINOR/PATH as in a table of mounts
      --own DIR              where a directory of this guest's own may be mounted for writing (repeatable)

  bottle-link -Y sign -n NAMESPACE -f ADDR:PORT FILE
      As git calls it in place of ssh-keygen: have the gate at ADDR:PORT sign FILE, and write the signature to FILE.sig.
      Any other -Y is done by the guest's own ssh-keygen.

  bottle-link --help | --version
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    Help,
    Version,
    Forward(Forward),
    Confine(Confine),
    Outside(Outside),
    Selftest(Selftest),
    Sign(Sign),
    /// The arguments, for ssh-keygen.
    Keygen(Vec<OsString>),
}

/// A loopback port and the file name of the socket behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardedPort {
    pub(crate) port: u16,
    pub(crate) socket: String,
}

/// What `forward` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Where to listen, when not on 127.0.0.1.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) doors_dir: PathBuf,
    pub(crate) as_init: bool,
    pub(crate) control: bool,
    pub(crate) limits: ResourceLimits,
    pub(crate) doors: Vec<ForwardedPort>,
    /// Ports that something beside this link listens on, and the sockets to be made for them.
    pub(crate) serve: Vec<ForwardedPort>,
    /// The same with sockets that are descriptors of this process.
    pub(crate) serve_fds: Vec<(u16, RawFd)>,
}

/// What `confine` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Confine {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) filters: Vec<PathBuf>,
    pub(crate) limits: ResourceLimits,
    pub(crate) command: Vec<OsString>,
}

/// What `outside` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) join: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    pub(crate) read: Vec<PathBuf>,
    /// Unix sockets to be made, on which what is run listens.
    pub(crate) bind: Vec<PathBuf>,
    pub(crate) user: Option<u32>,
    pub(crate) command: Vec<OsString>,
}

/// What everything that is run may use; none: as much as there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceLimits {
    /// Bytes of data of each process.
    pub(crate) data: Option<u64>,
    /// Processes and threads together.
    pub(crate) processes: Option<u64>,
    /// Processors.
    pub(crate) cpus: Option<u64>,
}

/// What a signature needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    pub(crate) namespace: String,
    pub(crate) gate: SocketAddr,
    pub(crate) file: OsString,
}

/// What `selftest` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selftest {
    pub(crate) json: bool,
    pub(crate) doors_dir: PathBuf,
    pub(crate) doors: Vec<ForwardedPort>,
    /// Whether nothing but these is looked at.
    pub(crate) doors_alone: bool,
    pub(crate) wait: Duration,
    /// The file with a secret that every door has to refuse.
    pub(crate) canary: Option<PathBuf>,
    pub(crate) host_addresses: Vec<SocketAddr>,
    pub(crate) allow: Vec<IpAddr>,
    pub(crate) tools: PathBuf,
    pub(crate) tmpfs: Vec<PathBuf>,
    pub(crate) lent: Vec<PathBuf>,
    pub(crate) own: Vec<PathBuf>,
    pub(crate) image: Option<String>,
    pub(crate) machine: Option<Ipv4Addr>,
}

const DOORS_DIR: &str = "/run/bottle";
const TOOLS_DIR: &str = "/opt/claude-bottle";

/// Reads the arguments, the program's name left out; the error says what is wrong with them.
pub(crate) fn parse<I>(args: I) -> Result<Invocation, lexopt::Error>
where
    I: IntoIterator<Item = OsString>,
    I::IntoIter: 'static,
{
    let all: Vec<OsString> = args.into_iter().collect();
    if all.first().is_some_and(|first| first == "-Y") {
        return if all.get(1).is_some_and(|what| what == "sign") {
            sign(&all[2..])
        } else {
            Ok(Invocation::Keygen(all))
        };
    }
    let mut args = Parser::from_args(all);
    match args.next()? {
        None => Err("a command is missing".into()),
        Some(Short('h') | Long("help")) => Ok(Invocation::Help),
        Some(Short('V') | Long("version")) => Ok(Invocation::Version),
        Some(Value(command)) => match command.to_str() {
            Some("help") => Ok(Invocation::Help),
            Some("forward") => forward(args),
            Some("confine") => confine(args),
            Some("outside") => outside(args),
            Some("selftest") => selftest(args),
            _ => Err(format!("unknown command `{}`", command.display()).into()),
        },
        Some(other) => Err(other.unexpected()),
    }
}

fn forward(mut args: Parser) -> Result<Invocation, lexopt::Error> {
    let mut options = Forward {
        address: None,
        doors_dir: DOORS_DIR.into(),
        as_init: false,
        control: false,
        limits: ResourceLimits::default(),
        doors: vec![],
        serve: vec![],
        serve_fds: vec![],
    };
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Long("serve") => options.serve.push(parse_door(&args.value()?.string()?)?),
            Long("serve-fd") => options.serve_fds.push(parse_descriptor(&args.value()?.string()?)?),
            Long("doors") => options.doors_dir = args.value()?.into(),
            Long("address") => options.address = Some(parsed(&mut args, "an IPv4 address")?),
            Long("as-init") => options.as_init = true,
            Long("control") => (options.as_init, options.control) = (true, true),
            Long("most-data") => options.limits.data = Some(number(&mut args)?),
            Long("most-processes") => options.limits.processes = Some(number(&mut args)?),
            Long("most-cpus") => options.limits.cpus = Some(number(&mut args)?),
            Value(door) => options.doors.push(parse_door(&door.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    if options.doors.is_empty() && options.serve.is_empty() && !options.control {
        return Err("no door to forward to; give one as PORT=SOCKET".into());
    }
    Ok(Invocation::Forward(options))
}

fn confine(mut args: Parser) -> Result<Invocation, lexopt::Error> {
    let (mut user, mut filters, mut limits) = (None, vec![], ResourceLimits::default());
    while let Some(arg) = option(&mut args)? {
        match arg {
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Long("user") => {
                let value = args.value()?.string()?;
                let ids =
                    value.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
                // Numbers of all ones mean "leave it as it is" to the kernel.
                let ids = ids.filter(|(user, group)| ![0, u32::MAX].contains(user) && ![0, u32::MAX].contains(group));
                user = Some(ids.ok_or_else(|| format!("`{value}` is not a user and a group other than root's"))?);
            }
            Long("filter") => filters.push(args.value()?.into()),
            Long("most-processes") => limits.processes = Some(number(&mut args)?),
            other => return Err(other.unexpected()),
        }
    }
    let (user, group) = user.ok_or("`--user` is missing")?;
    Ok(Invocation::Confine(Confine { user, group, filters, limits, command: command(args)? }))
}

fn outside(mut args: Parser) -> Result<Invocation, lexopt::Error> {
    let mut options = Outside { join: vec![], write: vec![], read: vec![], bind: vec![], user: None, command: vec![] };
    while let Some(arg) = option(&mut args)? {
        match arg {
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Long("join") => options.join.push(args.value()?.into()),
            Long("write") => options.write.push(args.value()?.into()),
            Long("read") => options.read.push(args.value()?.into()),
            Long("bind") => options.bind.push(args.value()?.into()),
            Long("user") => {
                let value = args.value()?.string()?;
                let id = value.parse().ok().filter(|id| ![0, u32::MAX].contains(id));
                options.user = Some(id.ok_or_else(|| format!("`{value}` is not a user other than root"))?);
            }
            other => return Err(other.unexpected()),
        }
    }
    options.command = command(args)?;
    Ok(Invocation::Outside(options))
}

/// Reads what git gives behind `-Y sign` (gpg-interface.c of git).
fn sign(args: &[OsString]) -> Result<Invocation, lexopt::Error> {
    let mut args = Parser::from_args(args.to_vec());
    let (mut namespace, mut gate, mut file) = (None, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Short('n') => namespace = Some(args.value()?.string()?),
            Short('f') => {
                let value = args.value()?.string()?;
                let address = value.parse().map_err(|_| {
                    format!("the key is at the gate, and `user.signingKey` is its address, not `{value}`; unset what the repository has")
                })?;
                gate = Some(address);
            }
            // With a public key in place of a file's name.
            Short('U') => return Err("the key is at the gate: unset the repository's own `user.signingKey`".into()),
            Value(name) if file.is_none() => file = Some(name),
            other => return Err(other.unexpected()),
        }
    }
    let namespace = namespace.ok_or("`-n` is missing")?;
    Ok(Invocation::Sign(Sign {
        namespace,
        gate: gate.ok_or("`-f` is missing")?,
        file: file.ok_or("no file to be signed")?,
    }))
}

fn selftest(mut args: Parser) -> Result<Invocation, lexopt::Error> {
    let mut options = Selftest {
        json: false,
        doors_dir: DOORS_DIR.into(),
        doors: vec![],
        doors_alone: false,
        wait: Duration::from_secs(10),
        canary: None,
        host_addresses: vec![],
        allow: vec![],
        tools: TOOLS_DIR.into(),
        tmpfs: vec![],
        lent: vec![],
        own: vec![],
        image: None,
        machine: None,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Long("json") => options.json = true,
            Long("doors") => options.doors_dir = args.value()?.into(),
            Long("door") => options.doors.push(parse_door(&args.value()?.string()?)?),
            Long("doors-alone") => options.doors_alone = true,
            Long("wait") => {
                options.wait = Duration::from_secs(parsed::<u32>(&mut args, "a number of seconds")?.into());
            }
            Long("canary") => options.canary = Some(args.value()?.into()),
            Long("host-address") => options.host_addresses.push(parsed(&mut args, "an address and a port")?),
            Long("allow") => options.allow.push(parsed(&mut args, "an address")?),
            Long("machine") => options.machine = Some(parsed(&mut args, "an IPv4 address")?),
            Long("tools") => options.tools = args.value()?.into(),
            Long("tmpfs") => options.tmpfs.push(args.value()?.into()),
            Long("lent") => options.lent.push(args.value()?.into()),
            Long("image") => {
                let value = args.value()?.string()?;
                if !value.contains(':') {
                    return Err(format!("`{value}` is not a device and a path; it is written as 254:0/path").into());
                }
                options.image = Some(value);
            }
            Long("own") => options.own.push(args.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Invocation::Selftest(options))
}

fn parse_door(text: &str) -> Result<ForwardedPort, String> {
    let error = || format!("`{text}` is not a door; it is written as 8889=egress.sock");
    let (port, socket) = text.split_once('=').ok_or_else(error)?;
    let port: u16 = port.parse().map_err(|_| error())?;
    if port == 0 || socket.is_empty() || socket.contains('/') || socket.starts_with('.') {
        return Err(error());
    }
    Ok(ForwardedPort { port, socket: socket.to_owned() })
}

/// A port, and a descriptor that is none of the three which everything has.
fn parse_descriptor(text: &str) -> Result<(u16, RawFd), String> {
    let error = || format!("`{text}` is not a port and a descriptor; it is written as 5432=3");
    let (port, fd) = text.split_once('=').ok_or_else(error)?;
    let (port, fd): (u16, RawFd) = (port.parse().map_err(|_| error())?, fd.parse().map_err(|_| error())?);
    if port == 0 || fd < 3 { Err(error()) } else { Ok((port, fd)) }
}

/// The next option before the `--` that a command comes after; none at that `--` or at the end, where the rest is left
/// to [`command`].
fn option(args: &mut Parser) -> Result<Option<Arg<'_>>, lexopt::Error> {
    let at_command = args.try_raw_args().is_some_and(|rest| rest.peek().is_none_or(|next| next == "--"));
    if at_command { Ok(None) } else { args.next() }
}

/// The command after `--`, with its arguments.
fn command(mut args: Parser) -> Result<Vec<OsString>, lexopt::Error> {
    // The first is the `--` itself.
    let command: Vec<OsString> = args.raw_args()?.skip(1).collect();
    if command.is_empty() { Err("no command to run; it comes after `--`".into()) } else { Ok(command) }
}

/// The value of the option just read; `what` says in an error which kind it is.
fn parsed<T: FromStr>(args: &mut Parser, what: &str) -> Result<T, lexopt::Error> {
    let value = args.value()?.string()?;
    value.parse().map_err(|_| format!("`{value}` is not {what}").into())
}

fn number(args: &mut Parser) -> Result<u64, lexopt::Error> {
    parsed::<NonZeroU64>(args, "a number above 0").map(NonZeroU64::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Invocation, lexopt::Error> {
        parse(text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_door_stays_in_its_directory() {
        for text in [
            "8889",
            "0=a.sock",
            "x=a.sock",
            "99999=a",
            "1=../a",
            "1=/a",
            "1=",
            "1=..",
            "--odd 1=a",
            "--serve 5432=../db.sock",
            "--serve 5432",
            "--control --serve-fd 5432=2",
            "--control --serve-fd db.sock",
            "--doors",
            "--most-cpus 0 1=a",
        ] {
            assert!(read(&format!("forward {text}")).is_err(), "{text}");
        }
        let Ok(Invocation::Forward(options)) = read("forward --as-init 8889=egress.sock 9100=supervise.sock") else {
            panic!("these are good");
        };
        assert!(options.as_init && options.serve.is_empty());
        assert!(matches!(read("forward --serve 5432=db.5432.sock"), Ok(Invocation::Forward(_))));
        assert_eq!(options.doors[1], ForwardedPort { port: 9100, socket: "supervise.sock".to_owned() });
    }

    #[test]
    fn what_is_confined_is_not_root() {
        for text in [
            "confine -- true",
            "confine --user 0:1000 -- true",
            "confine --user 1000:0 -- true",
            "confine --user 4294967295:1000 -- true",
            "confine --user 1000 -- true",
            "confine --user 1000:1000 true",
            "confine --user 1000:1000 --",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let Ok(Invocation::Confine(options)) = read("confine --user 1000:1001 --filter /f -- sh -c --x") else {
            panic!("this is good");
        };
        assert_eq!((options.user, options.group), (1000, 1001));
        assert_eq!(options.command, ["sh", "-c", "--x"]);
    }

    #[test]
    fn who_runs_a_sandbox_is_not_root() {
        for text in [
            "outside -- ",
            "outside --user 0 -- true",
            "outside --user 4294967295 -- true",
            "outside --user x -- true",
            "outside true",
        ] {
            assert!(read(text.trim()).is_err(), "{text}");
        }
        let Ok(Invocation::Outside(options)) =
            read("outside --join /g/tasks --write /i --read /s --user 7 -- bwrap --user")
        else {
            panic!("this is good");
        };
        assert_eq!((options.user, options.command.len()), (Some(7), 2));
    }

    #[test]
    fn git_may_take_it_for_ssh_keygen() {
        let Ok(Invocation::Sign(options)) = read("-Y sign -n git -f 127.0.0.1:9418 /tmp/buffer") else {
            panic!("this is good");
        };
        assert_eq!((options.namespace.as_str(), options.gate.port()), ("git", 9418));
        for text in [
            "-Y sign",
            "-Y sign -n git /tmp/buffer",
            "-Y sign -n git -f 127.0.0.1:9418",
            "-Y sign -n git -f ~/.ssh/id_ed25519 /tmp/buffer",
            "-Y sign -n git -f git-gate:9418 /tmp/buffer",
            "-Y sign -n git -f 127.0.0.1:9418 -U /tmp/buffer",
            "-Y sign -n git -f 127.0.0.1:9418 /tmp/buffer /tmp/other",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(matches!(read("-Y verify -f x"), Ok(Invocation::Keygen(args)) if args.len() == 4));
    }

    #[test]
    fn a_self_test_takes_addresses_only() {
        for text in ["--host-address localhost:80", "--host-address 10.0.0.1", "--allow host", "--wait x", "more"] {
            assert!(read(&format!("selftest {text}")).is_err(), "{text}");
        }
        assert!(read("selftest --json --host-address [fe80::1%2]:80 --host-address 10.0.0.1:22 --wait 3").is_ok());
    }
}
