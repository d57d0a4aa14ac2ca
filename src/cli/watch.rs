//! `bottle-runner watch`: a run that goes on, on one screen, or as lines where there is none.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bottle_types::door::STATE_DIR;
use bottle_types::record_file::RecordFile;
use bottle_wire::control::Listing;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::proposals::keys::Keys;
use super::proposals::{self, Which};
use super::show::{columns, open, page};
use super::{Context, print};
use crate::approve::{ControlClient, what};
use crate::backend::{self, Bottle, Side};
use crate::exit::{Code, Failure};
use crate::host;
use crate::report::{LiveRun, Page, printed_event};
use crate::state;

/// How often the screen is drawn, if anything on it has changed.
const REDRAW: Duration = Duration::from_millis(500);
/// How often the doors are asked, at the most; looking takes a twentieth of the time, however long their logs are.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_SHARE: u32 = 20;
/// The logs of the doors that are followed.
const LOGS: [&str; 3] = ["egress.jsonl", "pipelock.jsonl", "budget.jsonl"];

/// Watch a run of this machine: phase, cost, tools, requests, and what waits for a person; q leaves, and the run goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// The run's slug, as `ps` shows it; not needed if there is only one live run.
    slug: Option<String>,
    /// Print the run's events as JSON, a line each, as events.jsonl has them, and no screen.
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: WatchArgs, context: &Context) -> Result<Code, Failure> {
    let (slug, dir) = proposals::dir(&Which { slug: args.slug }, "say which one: bottle-runner watch SLUG", context)?;
    let mut watched = Watched::new(&slug, &dir);
    let left = follow(&mut watched, args.json, context).await?;
    if left == Left::ByPerson || args.json {
        return Ok(Code::Done);
    }
    let mut page = page(context);
    open(&dir, context)?.summary().print(&mut page);
    print(&page.into_text())
}

/// How a watch ends.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    RunEnded,
    ByPerson,
}

/// Follows the run to its end, or until somebody leaves.
async fn follow(watched: &mut Watched, is_json: bool, context: &Context) -> Result<Left, Failure> {
    let is_dumb = context.environment.get("TERM").is_none_or(|term| term == "dumb");
    let mut screen = (std::io::stdout().is_terminal() && !is_dumb && !is_json).then(Screen::enter);
    let mut keys = screen.as_ref().and_then(|_| Keys::listen());
    let mut ended = signal(SignalKind::terminate())
        .map_err(|error| Failure::machine(format_args!("failed to listen for signals: {error}")))?;
    let (sender, mut news) = mpsc::channel(1);
    let looking = tokio::spawn(look(watched.dir.clone(), sender));
    let mut tick = tokio::time::interval(REDRAW);
    let left = loop {
        let key = async {
            match &mut keys {
                Some(keys) => keys.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tick.tick() => {
                // Before the files are read: what the run writes last is then read, too.
                let is_live = state::is_live(&watched.dir);
                for event in watched.read() {
                    match &event.told {
                        _ if is_json => print_json(&event.line),
                        Some(told) if screen.is_none() => print_line(context, told),
                        _ => {}
                    }
                }
                if !is_live {
                    break Left::RunEnded;
                }
                if let Some(screen) = &mut screen {
                    screen.draw(&watched.run, context);
                }
            }
            Some(news) = news.recv() => watched.doors(&news),
            key = key => if matches!(key, None | Some(b'q' | 0x03 | 0x04)) { break Left::ByPerson },
            _ = tokio::signal::ctrl_c() => break Left::ByPerson,
            _ = ended.recv() => break Left::ByPerson,
        }
    };
    looking.abort();
    Ok(left)
}

/// A line for people where there is no screen. A reader that went away is no error.
fn print_line(context: &Context, (mark, colour, text): &(&'static str, &'static str, String)) {
    let mut page = Page::new(context.out, None);
    page.line(&[(colour, mark), ("", " "), ("", text)]);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(page.into_text().as_bytes()).and_then(|()| out.flush());
}

/// A line of JSON. One that is not understood is left out, and a reader that went away is no error.
fn print_json(line: &[u8]) {
    if let Some(line) = printed_event(line) {
        say(&format!("{line}\n"));
    }
}

/// The terminal's other screen; the first one as it was when this goes.
struct Screen {
    drawn: String,
}

impl Screen {
    fn enter() -> Self {
        say("\x1b[?1049h\x1b[?25l");
        Self { drawn: String::new() }
    }

    /// Draws the run over what is there, unless that is the same.
    fn draw(&mut self, run: &LiveRun, context: &Context) {
        let mut page = Page::new(context.out, columns().or(Some(80)));
        run.print(&mut page, i64::try_from(host::unix_millis()).unwrap_or(i64::MAX));
        page.line(&[]);
        page.line(&[("2", "q leaves, and the run goes on")]);
        let text = page.into_text();
        // Each line over the one that is there, without a flash of an empty screen; the last row stays free, so that nothing scrolls.
        let lines: Vec<&str> = text.lines().take(rows() - 1).collect();
        let drawn = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\n"));
        if drawn != self.drawn {
            say(&drawn);
            self.drawn = drawn;
        }
    }
}

/// Rows of the terminal; 24 where it does not say.
fn rows() -> usize {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    if rows == 0 { 24 } else { rows.max(2) }
}

impl Drop for Screen {
    fn drop(&mut self) {
        say("\x1b[?25h\x1b[?1049l");
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A new line of events.jsonl.
struct WatchedEvent {
    line: Vec<u8>,
    /// The same for people: its mark, the mark's colour, and the words; none where there is nothing to say.
    told: Option<(&'static str, &'static str, String)>,
}

/// A run, and how far its files were read.
struct Watched {
    dir: PathBuf,
    run: LiveRun,
    events: Tail,
    transcript: Tail,
    /// Bytes of each door's log that were read.
    read: [usize; LOGS.len()],
}

impl Watched {
    fn new(slug: &str, dir: &Path) -> Self {
        let plan = state::value(dir, RecordFile::Plan).ok();
        Self {
            dir: dir.to_owned(),
            run: LiveRun::new(slug, plan.as_ref()),
            events: Tail::new(dir.join(RecordFile::Events)),
            transcript: Tail::new(dir.join(RecordFile::Transcript)),
            read: [0; LOGS.len()],
        }
    }

    /// Reads what the run has written since.
    fn read(&mut self) -> Vec<WatchedEvent> {
        let transcript = self.transcript.more();
        whole_lines(&transcript).for_each(|line| self.run.transcript(line));
        let events = self.events.more();
        whole_lines(&events).map(|line| WatchedEvent { told: self.run.event(line), line: line.to_vec() }).collect()
    }

    /// Takes what the doors have written and what was asked for.
    fn doors(&mut self, news: &DoorNews) {
        for (at, log) in news.logs.iter().enumerate() {
            let new = log.get(self.read[at]..).unwrap_or_default();
            let end = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            self.read[at] += end;
            for line in whole_lines(&new[..end]) {
                if LOGS[at] == "budget.jsonl" { self.run.paid(line) } else { self.run.access(line) }
            }
        }
        if let Some(listing) = &news.listing {
            self.run.proposals(&listing.proposals, |standing| what(&standing.proposal.request));
        }
    }
}

fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A file that grows line by line.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// The whole lines that are new. A file that is not there yet has none.
    fn more(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return vec![];
        }
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        self.read += bytes.len() as u64;
        bytes
    }
}

/// What a look at the doors has found.
#[derive(Debug)]
struct DoorNews {
    logs: [Vec<u8>; LOGS.len()],
    listing: Option<Listing>,
}

/// Looks at the doors again and again, as long as somebody watches. A bottle that is not up yet, or gone already, has nothing to tell.
async fn look(dir: PathBuf, news: mpsc::Sender<DoorNews>) {
    loop {
        let began = Instant::now();
        if let Ok(bottle) = backend::attach(&dir).await
            && news.send(look_once(bottle.as_ref()).await).await.is_err()
        {
            return;
        }
        tokio::time::sleep(LOOK.max(began.elapsed() * LOOK_SHARE)).await;
    }
}

async fn look_once(bottle: &dyn Bottle) -> DoorNews {
    DoorNews { logs: door_logs(bottle).await, listing: ControlClient(bottle).list().await.ok() }
}

/// What the doors have written of requests and of what the model cost, in the order of [`LOGS`].
pub(super) async fn door_logs(bottle: &dyn Bottle) -> [Vec<u8>; LOGS.len()] {
    let mut logs = [const { vec![] }; LOGS.len()];
    for (log, name) in logs.iter_mut().zip(LOGS) {
        if let Ok(Some(tree)) = bottle.copy_out(Side::Bundle, &format!("{STATE_DIR}/log/{name}")).await {
            *log = tree.files().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        }
    }
    logs
}
