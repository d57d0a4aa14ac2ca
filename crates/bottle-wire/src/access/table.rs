//! The lines of both doors as a table for people: a row a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bottle_types::door::Door;

use super::{Access, AccessVerdict};

/// A row's cells, in the order of [`HEAD`].
type Row = [String; 9];

const HEAD: [&str; 9] = ["TIME", "METHOD", "WHERE", "STATUS", "VERDICT", "OUT", "IN", "MS", "NOTES"];
/// A longer URL is cut in its middle.
const WIDEST: usize = 60;

/// The table of a run record's `egress.jsonl`; lines that are none are counted at its end.
pub fn table(text: &str) -> String {
    let (mut rows, mut strange) = (vec![], 0);
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut all: Vec<Access> = vec![];
    for line in lines {
        match serde_json::from_str(line) {
            Ok(access) => all.push(access),
            Err(_) => strange += 1,
        }
    }
    all.sort_by(|one, other| one.time.cmp(&other.time));
    for access in all {
        // The guest's own door has the last word about what the guest got; pipelock's line may know more of why.
        match index.get(&access.id).and_then(|at| rows.get_mut(*at)) {
            Some(known) => merge(known, access),
            None => {
                index.insert(access.id.clone(), rows.len());
                rows.push(access);
            }
        }
    }
    let rows: Vec<Row> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(row)).collect();
    let widths: [usize; 9] =
        std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default());
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let number = matches!(at, 5..=7);
            let _ = if number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if strange > 0 {
        let _ = writeln!(out, "{strange} lines are no requests");
    }
    out
}

fn merge(known: &mut Access, other: Access) {
    let (egress, pipelock) = match known.door {
        Door::Egress => (known.clone(), other),
        _ => (other, known.clone()),
    };
    *known = Access {
        verdict: if egress.verdict == AccessVerdict::Allow { pipelock.verdict } else { egress.verdict },
        reason: egress.reason.or(pipelock.reason),
        finding: egress.finding.or(pipelock.finding),
        proposal: egress.proposal.or(pipelock.proposal),
        credential: egress.credential.or(pipelock.credential),
        path: if pipelock.path == "(withheld)" { pipelock.path } else { egress.path },
        not_inspected: egress.not_inspected || pipelock.not_inspected,
        ..egress
    };
}

fn row(access: &Access) -> Row {
    let verdict = match access.verdict {
        AccessVerdict::Allow => "allow",
        AccessVerdict::Deny => "deny",
        AccessVerdict::Block => "block",
        AccessVerdict::Error => "error",
        AccessVerdict::Replay => "replay",
    };
    let port = if matches!(access.port, 443 | 0) { String::new() } else { format!(":{}", access.port) };
    let mut notes = vec![];
    notes.extend(access.reason.clone());
    notes.extend(access.finding.as_ref().map(|found| format!("{} in {} at {}", found.rule, found.at, found.offset)));
    notes.extend(access.credential.as_ref().map(|name| format!("with {name}")));
    if access.not_inspected {
        notes.push("NOT INSPECTED".to_owned());
    }
    let time = access.time.split('T').nth(1).unwrap_or(&access.time).trim_end_matches('Z');
    [
        time.to_owned(),
        access.method.clone(),
        cut(&format!("{}{port}{}", access.host, access.path)),
        if access.status == 0 { "-".to_owned() } else { access.status.to_string() },
        verdict.to_owned(),
        access.bytes_out.to_string(),
        access.bytes_in.to_string(),
        access.ms.to_string(),
        notes.join(", "),
    ]
    .map(|cell| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

fn cut(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= WIDEST {
        return text.to_owned();
    }
    let (front, back) = (&chars[..WIDEST - 21], &chars[chars.len() - 20..]);
    front.iter().chain(&['\u{2026}']).chain(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_lines_are_one_row() {
        let text = concat!(
            r#"{"time":"2026-11-20T10:00:00.001Z","id":"a1","door":"pipelock","method":"POST","host":"api.example.org","port":443,"path":"(withheld)","route":0,"verdict":"block","reason":"dlp","finding":{"rule":"npm-token","at":"url","offset":7},"status":403,"bytes_out":0,"bytes_in":90,"ms":1}"#,
            "\n",
            r#"{"time":"2026-11-20T10:00:00.000Z","id":"a1","door":"egress","method":"POST","host":"api.example.org","port":443,"path":"/x","route":0,"verdict":"block","reason":"dlp","status":403,"bytes_out":10,"bytes_in":90,"ms":2}"#,
            "\nnot a line\n",
            r#"{"time":"2026-11-20T10:00:01.000Z","id":"a2","door":"egress","method":"CONNECT","host":"pinned.example.org","port":443,"path":"","verdict":"allow","status":101,"bytes_out":500,"bytes_in":4000,"ms":90,"not_inspected":true,"credential":"KEY"}"#,
        );
        insta::assert_snapshot!(table(text), @r"
        TIME          METHOD   WHERE                      STATUS  VERDICT  OUT    IN  MS  NOTES
        10:00:00.000  POST     api.example.org(withheld)  403     block     10    90   2  dlp, npm-token in url at 7
        10:00:01.000  CONNECT  pinned.example.org         101     allow    500  4000  90  with KEY, NOT INSPECTED
        1 lines are no requests
        ");
    }

    #[test]
    fn a_long_url_is_cut_in_its_middle() {
        let long = format!("a.example/{}/end", "x".repeat(200));
        assert_eq!(cut(&long).chars().count(), WIDEST);
        assert!(cut(&long).ends_with("/end"));
    }
}
