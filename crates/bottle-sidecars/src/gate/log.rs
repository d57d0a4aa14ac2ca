//! The hooks' way to the gate's log. Hooks have the client at the other end of their standard output, so their log lines go
//! to the gate's own process through a datagram socket.

use std::os::unix::net::UnixDatagram;

use super::dirs::{GateDirs, private};
use super::process;
use crate::common::{Dirs, Error};

/// The name of the log socket in the gate's own directory.
const LOG_SOCKET: &str = "log.sock";

/// Sends a line to the gate's log; the line is lost if the gate is gone.
pub(super) fn send(dirs: &Dirs, line: &str) {
    if let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _ = socket.send_to(line.as_bytes(), private(dirs).join(LOG_SOCKET));
    }
}

/// Prints the lines that hooks send.
pub(super) fn relay(gate: &GateDirs) -> Result<(), Error> {
    let path = gate.private_path(LOG_SOCKET);
    let make = |error| Error::Make { path: path.clone(), error };
    if path.exists() {
        std::fs::remove_file(&path).map_err(make)?;
    }
    let socket = tokio::net::UnixDatagram::bind(&path).map_err(make)?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 8 << 10];
        while let Ok(count) = socket.recv(&mut buffer).await {
            tracing::info!("{}", process::printable(&String::from_utf8_lossy(&buffer[..count])));
        }
    });
    Ok(())
}
