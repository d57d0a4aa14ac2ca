//! Single keys from a terminal, and lines where words are needed.

use std::io::{IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// The terminal without line editing; as it was when this goes.
pub(crate) struct Keys {
    before: Termios,
    keys: mpsc::UnboundedReceiver<u8>,
}

impl Keys {
    /// None: stdin or stdout is no terminal, so nobody types.
    pub(crate) fn listen() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() || !std::io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        let (sender, keys) = mpsc::unbounded_channel();
        // A read of a terminal can't be given up, so it has a thread that ends with the process.
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().lock().read(&mut byte), Ok(1)) {
                if sender.send(byte[0]).is_err() {
                    return;
                }
            }
        });
        Some(Self { before, keys })
    }

    /// The next key; none: the terminal is gone.
    pub(crate) async fn next(&mut self) -> Option<u8> {
        self.keys.recv().await
    }

    /// Keys up to Enter, as `echo` shows them; none: Escape.
    pub(super) async fn line(&mut self, echo: impl Fn(&str)) -> Option<String> {
        let mut bytes = vec![];
        loop {
            match self.next().await? {
                b'\r' | b'\n' => {
                    echo("\n");
                    return Some(String::from_utf8_lossy(&bytes).trim().to_owned());
                }
                0x1b => {
                    echo(" (given up)\n");
                    return None;
                }
                0x7f | 0x08 => {
                    while bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                    echo(&format!("\r\x1b[2K> {}", String::from_utf8_lossy(&bytes)));
                }
                byte if byte < 0x20 => {}
                byte => {
                    bytes.push(byte);
                    echo(&format!("\r> {}", String::from_utf8_lossy(&bytes)));
                }
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
