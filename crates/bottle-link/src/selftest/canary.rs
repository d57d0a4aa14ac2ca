//! The canary through each door: a secret that is planted in the guest, and that nobody has any use for, is sent to the place of each
//! door that leads nowhere. The door must refuse it, and say that it was this secret.
//!
//! Always: any other answer leaves the case open. A connection that is refused, another refusal, or no answer says nothing about
//! what the door would do with a secret.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Case, Finding, case, json};
use crate::cli::Selftest;

/// How a door names what it has found. The names here are those of `bottle_types::canary`.
const RULE: &str = "known-secret:BOTTLE_CANARY";
const HOST: &str = "self-test.invalid";
const REPOSITORY: &str = "bottle-self-test";
const REF: &str = "refs/heads/self-test";
const TOOL: &str = "self_test";

/// Between two tries.
const EVERY: Duration = Duration::from_millis(5);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 256 << 10;

/// A way in which a door is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// To a proxy.
    Http,
    /// To the gate, of the push that standard input has.
    Git,
    /// To the MCP server.
    Mcp,
}

impl Speech {
    /// That of the door behind a socket; none: it is a service's.
    fn of(socket: &str) -> Option<Self> {
        match socket {
            "egress.sock" | "pipelock.sock" => Some(Self::Http),
            "git-gate.sock" => Some(Self::Git),
            "supervise.sock" => Some(Self::Mcp),
            _ => None,
        }
    }
}

/// What was sent to one door, whose answer is still to be read.
pub(super) struct Sent {
    name: String,
    speech: Speech,
    to: SocketAddr,
    until: Instant,
    /// The request, and the connection that has it.
    request: Result<(Vec<u8>, TcpStream), String>,
}

/// Sends the canary to each declared door.
pub(super) fn send(options: &Selftest) -> Vec<Sent> {
    let Some(path) = &options.canary else { return vec![] };
    let canary = fs::read_to_string(path).map_err(|error| format!("failed to read {}: {error}", path.display()));
    let canary = canary.and_then(|text| match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        line => Ok(line.to_owned()),
    });
    let until = Instant::now() + options.wait;
    let address = options.machine.unwrap_or(Ipv4Addr::LOCALHOST);
    let mut sent = vec![];
    for door in &options.doors {
        let Some(speech) = Speech::of(&door.socket) else { continue };
        let to = SocketAddr::from((address, door.port));
        let request = canary.clone().and_then(|canary| {
            let request = match speech {
                Speech::Http => http(&canary),
                Speech::Git => git()?,
                Speech::Mcp => mcp(&canary),
            };
            deliver(to, &request, until).map(|stream| (request, stream))
        });
        let name = format!("canary.{}", door.socket.strip_suffix(".sock").unwrap_or(&door.socket));
        sent.push(Sent { name, speech, to, until, request });
    }
    sent
}

/// A case for each door that the canary was sent to.
pub(super) fn cases<'a>(sent: Vec<Sent>) -> Vec<Case<'a>> {
    sent.into_iter().map(|sent| case(sent.name.clone(), move || answered(sent))).collect()
}

/// Reads what a door says to the canary. The link takes connections before the door behind it does: one that ends without a word is tried
/// again until the time is up.
fn answered(Sent { speech, to, until, request, .. }: Sent) -> Finding {
    let (request, mut stream) = request?;
    loop {
        let mut answer = vec![];
        // One that stops in the middle may have said enough: what it has said decides.
        let read = (&stream).take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
        if !answer.is_empty() || Instant::now() >= until {
            return judge(speech, &String::from_utf8_lossy(&answer)).map_err(|why| match read {
                Ok(_) => why,
                Err(error) => format!("{why}; {error}"),
            });
        }
        std::thread::sleep(EVERY);
        stream = deliver(to, &request, until)?;
    }
}

/// Connects and sends, as often as it takes until the door is there.
fn deliver(to: SocketAddr, request: &[u8], until: Instant) -> Result<TcpStream, String> {
    loop {
        match once(to, request, until) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => return Err(format!("send to {to}: {error}")),
            Err(_) => std::thread::sleep(EVERY),
        }
    }
}

fn once(to: SocketAddr, request: &[u8], until: Instant) -> io::Result<TcpStream> {
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let mut stream = TcpStream::connect_timeout(&to, left)?;
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(request)?;
    Ok(stream)
}

fn http(canary: &str) -> Vec<u8> {
    let head = format!("POST http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\n");
    with_body(&head, canary)
}

/// The push, without waiting for what the gate has to say first: that is nothing the push depends on.
fn git() -> Result<Vec<u8>, String> {
    let service = format!("git-receive-pack /{REPOSITORY}.git\0host=git-gate\0");
    let mut push = format!("{:04x}{service}", service.len() + 4).into_bytes();
    let head = push.len();
    io::stdin().lock().read_to_end(&mut push).map_err(|error| format!("failed to read the push: {error}"))?;
    if push.len() == head { Err("there is no push on standard input".to_owned()) } else { Ok(push) }
}

fn mcp(canary: &str) -> Vec<u8> {
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{TOOL}","arguments":{{"text":{}}}}}}}"#,
        json::string(canary)
    );
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
    with_body(head, &call)
}

fn with_body(head: &str, body: &str) -> Vec<u8> {
    format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Whether an answer is the refusal of this secret.
fn judge(speech: Speech, answer: &str) -> Finding {
    let said = |all: &[&str]| all.iter().all(|part| answer.contains(part));
    let rule = format!("\"rule\":\"{RULE}\"");
    let is_refused = match speech {
        Speech::Http => answer.starts_with("HTTP/1.1 403 ") && said(&["\"error\":\"dlp\"", &rule]),
        Speech::Git => said(&[RULE, &format!("ng {REF} ")]),
        Speech::Mcp => answer.starts_with("HTTP/1.1 200 ") && said(&["\"isError\":true", RULE]),
    };
    if is_refused {
        return Ok(format!("refused: {RULE}"));
    }
    let shown: String = answer.chars().filter(|c| !c.is_control() || *c == '\n').take(300).collect();
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(match shown.is_empty() {
        true => "the planted secret was sent and not answered, so it can't be told whether it is refused".to_owned(),
        false => format!("the planted secret was not refused as one; the door said: {shown}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\n\r\n";

    #[test]
    fn only_the_refusal_of_this_secret_is_one() {
        let refusal =
            |error: &str, rule: &str| format!("{HTTP}{{\"error\":\"{error}\",\"message\":\"\",\"rule\":\"{rule}\"}}");
        assert!(judge(Speech::Http, &refusal("dlp", RULE)).is_ok());
        let git = format!("0030\u{2}git-gate: refused x: {RULE} at secret\n001fng {REF} pre-receive hook declined\n");
        assert!(judge(Speech::Git, &git).is_ok());
        let mcp = |text: &str, is_error: bool| {
            format!(
                "HTTP/1.1 200 OK\r\n\r\ndata: {{\"result\":{{\"content\":[{{\"text\":\"{text}\"}}],\"isError\":{is_error}}}}}"
            )
        };
        assert!(judge(Speech::Mcp, &mcp(RULE, true)).is_ok());
        for (speech, answer) in [
            (Speech::Http, String::new()),
            (Speech::Http, refusal("dlp", "known-secret:ANOTHER")),
            (Speech::Http, refusal("dlp", "github-pat")),
            (Speech::Http, refusal("no_route", RULE)),
            (Speech::Http, refusal("dlp", RULE).replace("403 Forbidden", "200 OK")),
            (Speech::Http, format!("{HTTP}{{\"error\":\"no_route\",\"message\":\"{RULE}\"}}")),
            (Speech::Http, "HTTP/1.1 502 Bad Gateway\r\n\r\n{\"error\":\"upstream\"}".to_owned()),
            (Speech::Http, refusal("dlp", RULE).replace(HTTP, "")),
            (Speech::Git, String::new()),
            (Speech::Git, format!("000eunpack ok\n0019ok {REF}\n")),
            (Speech::Git, format!("0030\u{2}git-gate: {RULE}\n0019ok {REF}\n")),
            (Speech::Git, format!("0030\u{2}git-gate: refused x: github-pat at secret\n001fng {REF} declined\n")),
            (Speech::Mcp, mcp("noted as P1", false)),
            (Speech::Mcp, mcp(RULE, false)),
            (Speech::Mcp, mcp("refused: nobody is there", true)),
            (Speech::Mcp, mcp(RULE, true).replace("200 OK", "403 Forbidden")),
        ] {
            assert!(judge(speech, &answer).is_err(), "{speech:?} {answer}");
        }
    }
}
