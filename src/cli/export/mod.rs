//! `bottle-runner export`: a run for other programs, printed or sent.
//!
//! Map: `collector` (where a trace is sent, and how), `follow` (a run that goes on).

mod collector;
mod follow;

use std::path::PathBuf;

use super::show::{open, open_logs, unreadable};
use super::{Context, print, record_dir};
use crate::exit::{Code, Failure};
use crate::report::Metrics;
use collector::{Collector, resource};
use follow::Follower;

/// Export a run for other programs, such as a collector of traces.
///
/// Prompts, answers, and what went into tools and came out are not exported.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("format").required(true).args(["otlp", "sarif", "ocsf", "svg", "prometheus"])))]
pub(crate) struct ExportArgs {
    /// The run record's directory, or the slug of a run on this machine; with --prometheus any number of them, or of directories with records in them.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// As a trace for OpenTelemetry: one line of OTLP/JSON.
    #[arg(long)]
    otlp: bool,
    /// As SARIF 2.1.0: what the doors refused, for a forge's code scanning.
    #[arg(long)]
    sarif: bool,
    /// As events of OCSF for a SIEM, a line of JSON each: the run, requests, pushes, decisions, and a finding for each refusal.
    #[arg(long)]
    ocsf: bool,
    /// As a picture of the timeline: an SVG that needs nothing else.
    #[arg(long)]
    svg: bool,
    /// As metrics for Prometheus: sums over the records, for the textfile collector of node_exporter.
    #[arg(long)]
    prometheus: bool,
    /// Send it to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, instead of printing it.
    #[arg(long, requires = "otlp")]
    send: bool,
    /// Send what is over by now, then each span as it ends, until the run does; the run does not wait for the collector.
    #[arg(long, requires = "send")]
    follow: bool,
}

pub(super) async fn main(args: &ExportArgs, context: &Context) -> Result<Code, Failure> {
    let environment = &context.environment;
    if args.prometheus {
        return prometheus(&args.records, context);
    }
    let [record] = &args.records[..] else {
        return Err(
            Failure::input("more than one record is named").hint("export one after the other; --prometheus takes many")
        );
    };
    if args.svg {
        return print(&open(record, context)?.timeline_svg());
    }
    if args.sarif {
        let sarif = open_logs(record, context)?.sarif();
        return print(&serde_json::to_string_pretty(&sarif).map_err(Failure::machine)?);
    }
    if args.ocsf {
        let events = open_logs(record, context)?.ocsf();
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        return print(&lines.join("\n"));
    }
    let resource = resource(environment)?;
    if !args.send {
        let trace = open(record, context)?.trace(&resource);
        return print(&serde_json::to_string(&trace).map_err(Failure::machine)?);
    }
    let collector = Collector::new(environment)?;
    let dir = record_dir(record, context);
    let mut follower = Follower::new(&dir, resource, &collector);
    if args.follow {
        follower.follow().await.map_err(|error| error.failure(|error| unreadable(&dir, error)))?;
    }
    follower.finish().await.map_err(|error| error.failure(|error| unreadable(&dir, error)))?;
    print(&format!("sent {} spans to {}\n", follower.sent(), collector.shown()))
}

/// Prints the sums of the records in and below the directories.
fn prometheus(dirs: &[PathBuf], context: &Context) -> Result<Code, Failure> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| record_dir(dir, context)).collect();
    let metrics = Metrics::read(&dirs).map_err(|(dir, error)| {
        Failure::input(format_args!("failed to read {}: {error}", dir.display()))
            .hint("give run records, or directories with records in them, such as the state root")
    })?;
    print(&metrics.text())
}
