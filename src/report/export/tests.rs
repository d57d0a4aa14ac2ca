//! The trace of every sample is one tree with the tokens of the budget, and has nothing of what was said.

use std::collections::{HashMap, HashSet};

use bottle_types::record_file::RecordFile;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::report::RunEvent;
use crate::report::model::samples::{self, Sample, hostile_contents};

/// The trace, read again by `opentelemetry-proto` out of both encodings.
fn decoded(sample: &Sample) -> ExportTraceServiceRequest {
    let trace = sample.view().trace(&[]);
    let read = ExportTraceServiceRequest::decode(trace.encode_to_vec().as_slice()).expect("protobuf");
    let json = serde_json::to_string(&trace).expect("JSON");
    let of_json: ExportTraceServiceRequest = serde_json::from_str(&json).expect("OTLP/JSON");
    assert_eq!(read, trace);
    assert_eq!(of_json, trace);
    assert_eq!(sample.view().trace(&[]), trace, "the same record gives the same trace");
    read
}

fn spans(trace: &ExportTraceServiceRequest) -> &[Span] {
    &trace.resource_spans[0].scope_spans[0].spans
}

fn number(span: &Span, name: &str) -> u64 {
    let value =
        span.attributes.iter().find(|attribute| attribute.key == name).and_then(|attribute| attribute.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::IntValue(number)) => *number as u64,
        _ => 0,
    }
}

fn samples() -> impl Iterator<Item = Sample> {
    samples::all().into_iter().chain([samples::hostile(&hostile_contents())])
}

#[test]
fn the_spans_of_a_run_are_one_tree() {
    for sample in samples() {
        let trace = decoded(&sample);
        let spans = spans(&trace);
        let parents: HashMap<&[u8], &[u8]> =
            spans.iter().map(|span| (span.span_id.as_slice(), span.parent_span_id.as_slice())).collect();
        assert_eq!(parents.len(), spans.len(), "every id is used once");
        assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id && span.trace_id.len() == 16));
        assert!(
            spans.iter().all(|span| span.span_id.len() == 8 && span.end_time_unix_nano >= span.start_time_unix_nano)
        );
        let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        assert_eq!(roots.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["run"]);
        for span in spans {
            let (mut at, mut seen) = (span.span_id.as_slice(), HashSet::new());
            while !at.is_empty() {
                assert!(seen.insert(at), "a circle at {}", span.name);
                at = parents.get(at).unwrap_or_else(|| panic!("{} has no parent", span.name));
            }
        }
    }
}

#[test]
fn the_tokens_of_the_spans_are_those_of_the_budget() {
    for sample in samples() {
        let text = std::fs::read_to_string(sample.dir.path().join(RecordFile::Budget)).expect("budget.jsonl");
        let paid = text.lines().filter_map(|line| serde_json::from_str::<bottle_policy::budget::Entry>(line).ok());
        let paid: u64 = paid.map(|entry| entry.tokens.all()).sum();
        let trace = decoded(&sample);
        let spans = spans(&trace);
        let sum = |name: &str| spans.iter().map(|span| number(span, name)).sum::<u64>();
        assert_eq!(sum("gen_ai.usage.input_tokens") + sum("gen_ai.usage.output_tokens"), paid);
        assert!(paid > 0);
    }
}

#[test]
fn a_request_is_below_what_had_it_sent() {
    let trace = decoded(&samples::success());
    let spans = spans(&trace);
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (span.span_id.as_slice(), span)).collect();
    let way = |span: &Span| {
        let mut names = vec![span.name.clone()];
        let mut at = span;
        while let Some(parent) = by_id.get(at.parent_span_id.as_slice()) {
            names.push(parent.name.clone());
            at = parent;
        }
        names.join(" < ")
    };
    let ways: Vec<String> = spans.iter().map(way).collect();
    let model = "POST < chat claude-opus-5-5";
    assert_eq!(ways.iter().filter(|way| way.starts_with("POST < chat ")).count(), 9, "{model}: {ways:#?}");
    assert!(ways.iter().any(|way| way.starts_with("GET < execute_tool Bash < chat ")), "{ways:#?}");
    assert!(ways.iter().any(|way| way.starts_with("git push < ")), "{ways:#?}");
    assert!(ways.iter().all(|way| way == "run" || way.ends_with(" < run")), "{ways:#?}");
}

#[test]
fn a_run_belongs_to_the_trace_that_started_it() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut sample = samples::approval();
    for (_, event) in &mut sample.events {
        if let RunEvent::Started { traceparent, .. } = event {
            *traceparent = Some(parent.to_owned());
        }
    }
    let trace = decoded(&sample);
    let spans = spans(&trace);
    assert!(spans.iter().all(|span| hex::encode(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(hex::encode(&spans[0].parent_span_id), "00f067aa0ba902b7");
    assert_eq!(spans[0].flags, 0x300, "the parent is known to be another process's");
}

#[test]
fn nothing_that_was_said_is_exported_and_nothing_is_hidden() {
    let json = |sample: &Sample| serde_json::to_string(&sample.view().trace(&[])).expect("JSON");
    let text = json(&samples::large(20, 2_000));
    for said in ["I build module", "make -C", "warnings", "Port the whole tree"] {
        assert!(!text.contains(said), "{said}");
    }
    let text = json(&samples::hostile(&hostile_contents()));
    assert_eq!(crate::report::show::alive(&text), None);
}

#[test]
fn who_exports_a_run_may_name_the_service() {
    let named = |resource: &[(String, String)]| {
        let trace = samples::approval().view().trace(resource);
        let attributes = &trace.resource_spans[0].resource.as_ref().expect("a resource").attributes;
        attributes.iter().map(|attribute| attribute.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(named(&[]), ["service.name", "service.version"]);
    let given = [("service.name".to_owned(), "mine".to_owned()), ("team".to_owned(), "a".to_owned())];
    assert_eq!(named(&given), ["service.name", "team", "service.version"]);
}
