//! The declared doors answer: what a run waits for before it starts the agent.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Case, case, machine};
use crate::cli::Selftest;

const EVERY: Duration = Duration::from_millis(5);

pub(super) fn cases(options: &Selftest) -> Vec<Case<'_>> {
    let until = Instant::now() + options.wait;
    let wait = move |what: &str, attempt: &dyn Fn() -> std::io::Result<()>| loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(format!("{what}: {error}")),
            Err(_) => sleep(EVERY),
        }
    };
    options
        .doors
        .iter()
        .map(|door| {
            let name = format!("door.{}", door.socket.strip_suffix(".sock").unwrap_or(&door.socket));
            case(name, move || {
                if let Some(address) = options.machine {
                    let to = SocketAddr::from((address, door.port));
                    wait(&format!("connect {to}"), &|| machine::is_open(to))?;
                    return Ok(format!("{to} answers"));
                }
                // The sidecar first: the link accepts before the sidecar does.
                let path = options.doors_dir.join(&door.socket);
                wait(&format!("connect {}", path.display()), &|| UnixStream::connect(&path).map(drop))?;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, door.port));
                wait(&format!("connect {address}"), &|| {
                    TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
                })?;
                Ok(format!("{} answers on port {}", path.display(), door.port))
            })
        })
        .collect()
}
