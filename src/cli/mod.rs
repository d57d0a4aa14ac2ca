//! The command line: what was typed, one file a subcommand, and how a failure is shown.

mod apply;
mod asked;
mod audit_credentials;
mod auto_merge;
mod cleanup;
mod doctor;
mod explain;
mod export;
mod extends;
mod facts;
mod forge_token;
mod init;
mod installation;
mod logs;
mod oldest;
mod order;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod pictures;
mod plan;
mod policy;
mod proposals;
mod ps;
mod repository;
mod resume;
mod rotate;
mod rules;
mod run;
mod show;
mod sign_record;
mod site;
mod split;
mod suggest;
mod task;
mod task_args;
mod test;
mod verify_record;
mod watch;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::{Code, Failure};
use crate::forge::ForgeError;
use crate::forge::app::SignedInApp;
use crate::host::Environment;
use crate::report::Style;
use crate::workflow_commands::{escaped, mask, plain};

/// Runs Claude Code on a task inside a sealed bottle: no credential, no network, four doors.
///
/// The result is a branch that a scanner has passed, on the upstream, and a run record with everything that happened.
#[derive(Debug, Parser)]
#[command(name = "bottle-runner", version, max_term_width = 110, after_help = after_help())]
struct Args {
    /// Print without colours, as if NO_COLOR were set or stderr were not a terminal.
    #[arg(long, global = true)]
    no_color: bool,
    /// Short for `run --dry-run`.
    #[arg(long)]
    dry_run: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first claude-bottle.yml and the workflows for this repository; never overwrites a file.
    Init(init::InitArgs),
    /// Do a task in a bottle, from the event to the pushed branch.
    Run(run::RunArgs),
    /// In a job: open an issue for each open task of an issue's task list, for runs of their own.
    Split(split::SplitArgs),
    /// Print what a run would do, and stop; needs no engine.
    Plan(plan::PlanArgs),
    /// Say which rule decides about a request, a push or an event, where it stands, and what would change that.
    Explain(explain::ExplainArgs),
    /// Hold the manifest against the cases of claude-bottle.test.yml, and name the rules that no case touches.
    Test(test::TestArgs),
    /// Print the smallest change of the manifest that would have let pass what runs were refused; never applies it.
    Suggest(suggest::SuggestArgs),
    /// List the live runs; with --all the ended ones too.
    Ps(ps::PsArgs),
    /// Show what a run did: one screen, or the parts that are asked for.
    Show(show::ShowArgs),
    /// Show what is different between two runs; exits with 0 whatever that is.
    Diff(show::DiffArgs),
    /// Watch a run of this machine: phase, cost, tools, requests, and what waits for a person; q leaves, and the run goes on.
    Watch(watch::WatchArgs),
    /// Export a run for other programs, such as a collector of traces.
    Export(export::ExportArgs),
    /// Make one page of many run records: runs by agent, cost by day, refusals by rule, the slowest phases.
    Site(site::SiteArgs),
    /// Print a run's logs.
    Logs(logs::LogsArgs),
    /// Show and decide the proposals of agents in this machine's runs.
    Proposals(proposals::ProposalsArgs),
    /// Have a run read its credentials again from their files and commands, as SIGHUP does.
    Rotate(rotate::RotateArgs),
    /// Apply a policy file to a running bottle, as an approved proposal is applied.
    Apply(apply::ApplyArgs),
    /// Check that a run record is complete and consistent, its chain of hashes unbroken, and with a key, that it is signed.
    VerifyRecord(verify_record::VerifyRecordArgs),
    /// Sign a run record: writes attestation.dsse.json beside its files.
    SignRecord(sign_record::SignRecordArgs),
    /// List where each credential of a run came from, and each request and push that it was used for.
    AuditCredentials(audit_credentials::AuditCredentialsArgs),
    /// Remove the containers, processes, directories and deploy keys of dead runs; never touches a live run.
    Cleanup(cleanup::CleanupArgs),
    /// Check what this machine has for each backend, and what the repository here lacks at its forge.
    Doctor(doctor::DoctorArgs),
    /// Look after this installation.
    #[command(name = "self", subcommand)]
    Installation(installation::SelfCommand),
    /// Print the JSON Schema of claude-bottle.yml.
    Schema {
        /// Print that of claude-bottle.test.yml.
        #[arg(long)]
        tests: bool,
        /// Print that of a line of events.jsonl.
        #[arg(long, conflicts_with = "tests")]
        events: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page.
    Man,
}

/// The input of every subcommand.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) style: Style,
    /// The style of what goes to stdout.
    pub(crate) out: Style,
    /// The App whose token the job has.
    pub(crate) app: Option<Arc<SignedInApp>>,
}

impl Context {
    /// True if this is a job of GitHub Actions, or of Gitea's or Forgejo's.
    pub(crate) fn in_actions(&self) -> bool {
        self.environment.get("GITHUB_ACTIONS").is_some()
    }

    /// In a job: has its log mask every credential, before anything else is said.
    fn mask_credentials(&self) {
        if self.in_actions() {
            for (_, value) in self.environment.credentials() {
                mask(value.expose());
            }
        }
    }
}

fn after_help() -> String {
    let codes: Vec<String> =
        Code::ALL.iter().map(|(code, meaning)| format!("  {:>3}  {meaning}", *code as u8)).collect();
    format!("Exit codes:\n{}", codes.join("\n"))
}

/// Puts in the word `run` where its options follow without it: `--dry-run` alone says which command is meant.
fn with_run(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let is_first = |word: &OsString| word != "--dry-run" && word != "--no-color";
    let at = words.iter().skip(1).position(is_first).map(|at| at + 1);
    let is_dry = words.iter().any(|word| word == "--dry-run");
    if let Some(at) = at.filter(|_| is_dry)
        && words[at].to_string_lossy().starts_with("--")
        && !matches!(words[at].to_str(), Some("--help" | "--version" | "--"))
    {
        words.insert(at, "run".into());
    }
    words
}

/// Runs the command that was typed.
pub(crate) fn main() -> Code {
    let args = match Args::try_parse_from(with_run(std::env::args_os())) {
        Ok(args) => args,
        Err(error) => {
            // clap's own text says what was wrong and where the help is.
            let _ = error.print();
            return if error.use_stderr() { Code::Input } else { Code::Done };
        }
    };
    let environment = Environment::read();
    let no_color = args.no_color || environment.get("NO_COLOR").is_some();
    let (style, out) = (Style::new(no_color), Style::of_stdout(no_color));
    let filter =
        tracing_subscriber::EnvFilter::try_new(environment.get("BOTTLE_LOG").unwrap_or("warn")).unwrap_or_default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(std::io::stderr)
        .init();
    let context = Context { environment, style, out, app: None };
    let in_actions = context.in_actions();
    let command = match args.command {
        Some(Command::Run(mut run)) => {
            run.dry_run |= args.dry_run;
            Command::Run(run)
        }
        Some(command) => command,
        None if args.dry_run => Command::Run(run::RunArgs { dry_run: true, ..run::RunArgs::default() }),
        None => {
            let _ = Args::command().print_help();
            return Code::Input;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return show(&Failure::machine(format_args!("failed to start: {error}")), style, in_actions),
    };
    let result = runtime.block_on(dispatch(command, context));
    // A read of a stuck engine must not keep a finished command.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => show(&failure, style, in_actions),
    }
}

async fn dispatch(command: Command, context: Context) -> Result<Code, Failure> {
    let context = match command {
        Command::Run(_) | Command::Split(_) | Command::Plan(_) if context.in_actions() => {
            let (environment, app) = crate::forge::app::signed_in(context.environment).await?;
            Context { environment, app, ..context }
        }
        _ => context,
    };
    let app = context.app.clone();
    let result = carry_out(command, context).await;
    if let Some(app) = app
        && let Err(why) = app.revoke().await
    {
        tracing::warn!("the App's token was not taken back, and ends by itself: {why}");
    }
    result
}

async fn carry_out(command: Command, context: Context) -> Result<Code, Failure> {
    match command {
        Command::Init(args) => init::main(&args, &context).await,
        Command::Run(args) => run::main(args, context).await,
        Command::Split(args) => split::main(&args, &context).await,
        Command::Plan(args) => plan::main(args, &context).await,
        Command::Explain(args) => explain::main(&args, &context).await,
        Command::Test(args) => test::main(&args, &context).await,
        Command::Suggest(args) => suggest::main(&args, &context).await,
        Command::Ps(args) => ps::main(&args, &context),
        Command::Show(args) => show::show(&args, &context),
        Command::Diff(args) => show::diff(&args, &context),
        Command::Watch(args) => watch::main(args, &context).await,
        Command::Export(args) => export::main(&args, &context).await,
        Command::Site(args) => site::main(&args),
        Command::Logs(args) => logs::main(&args, &context).await,
        Command::Proposals(args) => proposals::main(args, &context).await,
        Command::Rotate(args) => rotate::main(&args, &context),
        Command::Apply(args) => apply::main(args, &context).await,
        Command::VerifyRecord(args) => verify_record::main(&args, &context),
        Command::SignRecord(args) => sign_record::main(&args, &context),
        Command::AuditCredentials(args) => audit_credentials::main(&args, &context),
        Command::Cleanup(args) => cleanup::main(&args, &context).await,
        Command::Doctor(args) => doctor::main(&args, &context).await,
        Command::Installation(command) => installation::main(&command, &context).await,
        Command::Schema { tests, events } => {
            let schema = match (tests, events) {
                (true, _) => bottle_plan::policy_test::schema(),
                (_, true) => crate::report::events_schema(),
                _ => bottle_plan::manifest::schema(),
            };
            print(&serde_json::to_string_pretty(&schema).map_err(Failure::machine)?)
        }
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Args::command(), "bottle-runner", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man => {
            let mut page = vec![];
            clap_mangen::Man::new(Args::command()).render(&mut page).map_err(Failure::machine)?;
            print(&String::from_utf8_lossy(&page))
        }
    }
}

/// The directory of a record that is named by its path, or by the slug of a run on this machine.
fn record_dir(record: &Path, context: &Context) -> PathBuf {
    let by_slug = context.environment.state_root().map(|root| root.join(record));
    match by_slug {
        Some(dir) if record.components().count() == 1 && !record.is_dir() && dir.is_dir() => dir,
        _ => record.to_owned(),
    }
}

/// Prints a result on stdout; a reader that went away is no error.
pub(crate) fn print(text: &str) -> Result<Code, Failure> {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    Ok(Code::Done)
}

/// What a forge did not do, as the failure of a command.
fn failed(error: ForgeError) -> Failure {
    Failure::machine(&error).hint(error.hint())
}

/// Prints a failure that is none of the job's own, in one neutral line.
fn note(failure: &Failure) -> Code {
    let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let line = format!("::notice title=claude-bottle::{}\n", escaped(&format!("refused: {}{hint}", failure.what)));
    let _ = std::io::stderr().write_all(line.as_bytes());
    Code::Done
}

/// Prints the failure, its reason, and the help; in Actions as an annotation as well.
fn show(failure: &Failure, style: Style, in_actions: bool) -> Code {
    // A server's words may be among them, and a job's runner takes some lines for commands.
    let shown = |text: &str| if in_actions { plain(text) } else { text.to_owned() };
    let mut text = format!("{} {}\n", style.paint("1;31", "error:"), shown(&failure.what));
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{} {}\n", style.paint("1;36", "help:"), shown(hint)));
    }
    if in_actions {
        let help = failure.hint.as_ref().map(|hint| format!("\nhelp: {hint}")).unwrap_or_default();
        text.push_str(&format!("::error title=claude-bottle::{}\n", escaped(&format!("{}{help}", failure.what))));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    failure.code
}
