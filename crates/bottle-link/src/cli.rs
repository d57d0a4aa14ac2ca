//! Arguments: read by hand, because a parser would be half of this program.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
The guest's end of the doors of a bottle.

Usage:
  bottle-link forward [--doors DIR] [--as-init] [--control] [limits] PORT=SOCKET...
      Listen on 127.0.0.1:PORT and forward each connection to the unix socket of that name in DIR.
      --doors DIR   where the sockets are [default: /run/bottle]
      --as-init     be PID 1: reap orphans, end at once on SIGTERM or SIGINT
      --control     run the commands that come in on the listening unix socket that is standard input; no door is needed
      --most-data BYTES, --most-processes N, --most-cpus N
                    limits for everything that is run: data of each process, processes, processors

  bottle-link selftest [--json] [options]
      Try each way out of this guest. Exit code 0: all are closed; 1: one works, or can't be told.
      --json                 a JSON line a case: case, ok, detail, ms
      --doors DIR            where the sockets are [default: /run/bottle]
      --door PORT=SOCKET     a declared door: it must answer, and no other port may listen (repeatable)
      --wait SECONDS         how long the doors may take to answer [default: 10]
      --host-address ADDR:PORT   an address of the host that must not be reachable (repeatable)
      --allow ADDR           an address that may be reached: no --host-address case is made of it (repeatable)
      --tools DIR            where a read-only volume may be mounted [default: /opt/claude-bottle]
      --tmpfs DIR            where a tmpfs may be mounted, besides /tmp, /run, /var/tmp and /dev (repeatable)
      --lent DIR             what of the host may be mounted read-only, here or below (repeatable)
      --own DIR              where a directory of this guest's own may be mounted for writing (repeatable)

  bottle-link --help | --version
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Forward(Forward),
    Selftest(Selftest),
}

/// A loopback port and the file name of the socket behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) socket: String,
}

/// What `forward` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) doors_dir: PathBuf,
    pub(crate) as_init: bool,
    pub(crate) control: bool,
    pub(crate) limits: Limits,
    pub(crate) doors: Vec<Door>,
}

/// What everything that is run may use; none: as much as there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of data of each process.
    pub(crate) data: Option<u64>,
    /// Processes and threads together.
    pub(crate) processes: Option<u64>,
    /// Processors.
    pub(crate) cpus: Option<u64>,
}

/// What `selftest` needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selftest {
    pub(crate) json: bool,
    pub(crate) doors_dir: PathBuf,
    pub(crate) doors: Vec<Door>,
    pub(crate) wait: Duration,
    pub(crate) host_addresses: Vec<SocketAddr>,
    pub(crate) allow: Vec<IpAddr>,
    pub(crate) tools: PathBuf,
    pub(crate) tmpfs: Vec<PathBuf>,
    pub(crate) lent: Vec<PathBuf>,
    pub(crate) own: Vec<PathBuf>,
}

const DOORS_DIR: &str = "/run/bottle";
const TOOLS_DIR: &str = "/opt/claude-bottle";

/// Reads the arguments; the error says what is wrong with them.
pub(crate) fn parse(args: &[String]) -> Result<Command, String> {
    let mut args = Words(args.iter());
    match args.next() {
        None => Err("a command is missing".to_owned()),
        Some("--help" | "-h" | "help") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        Some("forward") => forward(args),
        Some("selftest") => selftest(args),
        Some(other) => Err(format!("unknown command `{other}`")),
    }
}

fn forward(mut args: Words<'_>) -> Result<Command, String> {
    let mut options = Forward {
        doors_dir: DOORS_DIR.into(),
        as_init: false,
        control: false,
        limits: Limits::default(),
        doors: vec![],
    };
    while let Some(arg) = args.next() {
        match arg {
            "--help" | "-h" => return Ok(Command::Help),
            "--doors" => options.doors_dir = args.value(arg)?.into(),
            "--as-init" => options.as_init = true,
            "--control" => (options.as_init, options.control) = (true, true),
            "--most-data" => options.limits.data = Some(args.number(arg)?),
            "--most-processes" => options.limits.processes = Some(args.number(arg)?),
            "--most-cpus" => options.limits.cpus = Some(args.number(arg)?),
            flag if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
            door => options.doors.push(parse_door(door)?),
        }
    }
    if options.doors.is_empty() && !options.control {
        return Err("no door to forward to; give one as PORT=SOCKET".to_owned());
    }
    Ok(Command::Forward(options))
}

fn selftest(mut args: Words<'_>) -> Result<Command, String> {
    let mut options = Selftest {
        json: false,
        doors_dir: DOORS_DIR.into(),
        doors: vec![],
        wait: Duration::from_secs(10),
        host_addresses: vec![],
        allow: vec![],
        tools: TOOLS_DIR.into(),
        tmpfs: vec![],
        lent: vec![],
        own: vec![],
    };
    while let Some(arg) = args.next() {
        match arg {
            "--help" | "-h" => return Ok(Command::Help),
            "--json" => options.json = true,
            "--doors" => options.doors_dir = args.value(arg)?.into(),
            "--door" => options.doors.push(parse_door(args.value(arg)?)?),
            "--wait" => {
                let value = args.value(arg)?;
                let seconds: u32 = value.parse().map_err(|_| format!("`{value}` is not a number of seconds"))?;
                options.wait = Duration::from_secs(seconds.into());
            }
            "--host-address" => {
                let value = args.value(arg)?;
                let address = value.parse().map_err(|_| format!("`{value}` is not an address and a port"))?;
                options.host_addresses.push(address);
            }
            "--allow" => {
                let value = args.value(arg)?;
                options.allow.push(value.parse().map_err(|_| format!("`{value}` is not an address"))?);
            }
            "--tools" => options.tools = args.value(arg)?.into(),
            "--tmpfs" => options.tmpfs.push(args.value(arg)?.into()),
            "--lent" => options.lent.push(args.value(arg)?.into()),
            "--own" => options.own.push(args.value(arg)?.into()),
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(Command::Selftest(options))
}

fn parse_door(text: &str) -> Result<Door, String> {
    let error = || format!("`{text}` is not a door; it is written as 8889=egress.sock");
    let (port, socket) = text.split_once('=').ok_or_else(error)?;
    let port: u16 = port.parse().map_err(|_| error())?;
    if port == 0 || socket.is_empty() || socket.contains('/') || socket.starts_with('.') {
        return Err(error());
    }
    Ok(Door { port, socket: socket.to_owned() })
}

struct Words<'a>(std::slice::Iter<'a, String>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next().map(String::as_str)
    }

    fn value(&mut self, option: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("`{option}` needs a value"))
    }

    fn number(&mut self, option: &str) -> Result<u64, String> {
        let value = self.value(option)?;
        value.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{value}` is not a number above 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
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
            "--doors",
            "--most-cpus 0 1=a",
        ] {
            assert!(read(&format!("forward {text}")).is_err(), "{text}");
        }
        let Ok(Command::Forward(options)) = read("forward --as-init 8889=egress.sock 9100=supervise.sock") else {
            panic!("these are good");
        };
        assert!(options.as_init);
        assert_eq!(options.doors[1], Door { port: 9100, socket: "supervise.sock".to_owned() });
    }

    #[test]
    fn a_self_test_takes_addresses_only() {
        for text in ["--host-address localhost:80", "--host-address 10.0.0.1", "--allow host", "--wait x", "more"] {
            assert!(read(&format!("selftest {text}")).is_err(), "{text}");
        }
        assert!(read("selftest --json --host-address [fe80::1%2]:80 --host-address 10.0.0.1:22 --wait 3").is_ok());
    }
}
