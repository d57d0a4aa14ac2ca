//! Log lines, each with the name of whose it is: `egress | …`. They are the bundle's stderr, and so `compose.log`.

use std::io::{Write as _, stderr};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

/// A longer line is printed in pieces.
const MAX_LOG_LINE_BYTES: u64 = 8 << 10;

/// Prints one line. Control characters become `\u{fffd}`: what the guest sends may be in it.
pub(super) fn say(name: &str, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    // Nobody is left to tell if this fails.
    let _ = stderr().write_all(format!("{name} | {text}\n").as_bytes());
}

/// Prints every line that comes until the last writer has gone.
pub(super) async fn forward(name: &'static str, pipe: Receiver) {
    let mut reader = BufReader::new(pipe);
    let mut line = vec![];
    loop {
        line.clear();
        match (&mut reader).take(MAX_LOG_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => say(name, String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}
