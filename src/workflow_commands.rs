//! Workflow commands: lines in a job's log that the job's runner obeys, and texts made harmless inside such lines.

use std::io::{self, Write as _};

use bottle_scan::aws_keys::secret_texts;

/// Tells the job's runner a value that must not show; each secret in it, and each line of it, as the runner masks by line.
pub(crate) fn mask(value: &[u8]) {
    let text = secret_texts(value).join(&b'\n');
    let text = String::from_utf8_lossy(&text);
    for line in text.lines().map(str::trim).filter(|line| line.len() >= bottle_scan::known::SHORTEST) {
        // The first and last line of a PEM file are the same in everyone's.
        if !line.starts_with("-----") {
            say(&format!("::add-mask::{}\n", escaped(line)));
        }
    }
}

/// A text for a line of ours outside the fence: on one line, and with none of the old commands in it, which a runner finds
/// anywhere in a line.
pub(crate) fn plain(text: &str) -> String {
    text.replace(['\r', '\n'], " ").replace("##[", "## [")
}

/// A text as the value of a workflow command.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A text as a property of a workflow command.
pub(crate) fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// Writes a line to the log.
pub(crate) fn say(line: &str) {
    // A log that went away must not end the run.
    let _ = io::stderr().write_all(line.as_bytes());
}
