//! A run for other programs' eyes: the model of `report/model` in formats that they read.
//!
//! Map: `otlp` (a trace for OpenTelemetry), `ocsf` (an audit log for a SIEM), `sarif` (refusals for code scanning),
//! `timeline` (a picture), `prometheus` (many runs in numbers). Always: nothing that was said, and no input or output of a tool, is exported; names, paths and
//! reasons are, masked and with nothing hidden in them.

mod ocsf;
mod otlp;
mod prometheus;
mod sarif;
#[cfg(test)]
mod tests;
mod timeline;

pub(crate) use prometheus::Metrics;
