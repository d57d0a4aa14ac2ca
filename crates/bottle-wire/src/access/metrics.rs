//! The lines of both doors as counters, in the text format that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Access, AccessVerdict};

/// Upper bounds of the buckets of a request's time, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

#[derive(Default)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    milliseconds: u64,
}

/// All that the lines say, added up: requests by door, verdict and reason; findings by rule; bytes; times.
pub fn metrics<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut requests: BTreeMap<(&str, &str, String), u64> = BTreeMap::new();
    let mut findings: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let mut bytes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut times: BTreeMap<&str, Times> = BTreeMap::new();
    for access in lines.filter_map(|line| serde_json::from_str::<Access>(line).ok()) {
        let door = access.door.name();
        let verdict = match access.verdict {
            AccessVerdict::Allow => "allow",
            AccessVerdict::Deny => "deny",
            AccessVerdict::Block => "block",
            AccessVerdict::Error => "error",
            AccessVerdict::Replay => "replay",
        };
        // What follows a colon is about one request alone.
        let reason = access.reason.unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        *requests.entry((door, verdict, reason)).or_default() += 1;
        if let Some(found) = access.finding {
            *findings.entry((door, found.rule.to_string())).or_default() += 1;
        }
        *bytes.entry((door, "out")).or_default() += access.bytes_out;
        *bytes.entry((door, "in")).or_default() += access.bytes_in;
        let time = times.entry(door).or_default();
        time.count += 1;
        time.milliseconds += access.ms;
        for (bucket, most) in time.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(access.ms as f64 <= most * 1000.0);
        }
    }
    let mut out = String::new();
    head(&mut out, "bottle_requests_total", "counter", "Requests, by door, verdict and reason.");
    for ((door, verdict, reason), count) in &requests {
        let reason = quoted(reason);
        let _ =
            writeln!(out, "bottle_requests_total{{door=\"{door}\",verdict=\"{verdict}\",reason=\"{reason}\"}} {count}");
    }
    head(&mut out, "bottle_findings_total", "counter", "Findings of a scan, by door and rule.");
    for ((door, rule), count) in &findings {
        let _ = writeln!(out, "bottle_findings_total{{door=\"{door}\",rule=\"{}\"}} {count}", quoted(rule));
    }
    head(&mut out, "bottle_body_bytes_total", "counter", "Bytes of bodies, by door and direction.");
    for ((door, direction), count) in &bytes {
        let _ = writeln!(out, "bottle_body_bytes_total{{door=\"{door}\",direction=\"{direction}\"}} {count}");
    }
    head(&mut out, "bottle_request_seconds", "histogram", "Time from a request's head to its answer's end.");
    for (door, time) in &times {
        for (count, most) in time.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "bottle_request_seconds_bucket{{door=\"{door}\",le=\"{most}\"}} {count}");
        }
        let _ = writeln!(out, "bottle_request_seconds_bucket{{door=\"{door}\",le=\"+Inf\"}} {}", time.count);
        let _ = writeln!(out, "bottle_request_seconds_sum{{door=\"{door}\"}} {}", time.milliseconds as f64 / 1000.0);
        let _ = writeln!(out, "bottle_request_seconds_count{{door=\"{door}\"}} {}", time.count);
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_add_up() {
        let line = |verdict: &str, more: &str, ms: u64| {
            format!(
                r#"{{"time":"t","id":"a","door":"egress","method":"GET","host":"a.example","port":443,"path":"/","verdict":"{verdict}"{more},"status":200,"bytes_out":1,"bytes_in":2,"ms":{ms}}}"#
            )
        };
        let found = r#","reason":"dlp","finding":{"rule":"npm-token","at":"body","offset":1}"#;
        let lines = [
            line("allow", "", 3),
            line("allow", "", 40),
            line("block", found, 1),
            line("error", r#","reason":"cut off: it \"broke\"""#, 900_000),
            "no line".to_owned(),
        ];
        let text = metrics(lines.iter().map(String::as_str));
        for expected in [
            "bottle_requests_total{door=\"egress\",verdict=\"allow\",reason=\"\"} 2\n",
            "bottle_requests_total{door=\"egress\",verdict=\"block\",reason=\"dlp\"} 1\n",
            "bottle_requests_total{door=\"egress\",verdict=\"error\",reason=\"cut off\"} 1\n",
            "bottle_findings_total{door=\"egress\",rule=\"npm-token\"} 1\n",
            "bottle_body_bytes_total{door=\"egress\",direction=\"in\"} 8\n",
            "bottle_request_seconds_bucket{door=\"egress\",le=\"0.005\"} 2\n",
            "bottle_request_seconds_bucket{door=\"egress\",le=\"300\"} 3\n",
            "bottle_request_seconds_bucket{door=\"egress\",le=\"+Inf\"} 4\n",
            "bottle_request_seconds_sum{door=\"egress\"} 900.044\n",
        ] {
            assert!(text.contains(expected), "{expected}{text}");
        }
    }
}
