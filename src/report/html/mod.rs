//! `report.html`: the whole run on one page that needs nothing else: no network, no other file, and for what matters no script.
//!
//! Map: `sections` (what is readable without a script), `sums` (the record's hash), `report.css`, `report.js`, which draws the data of
//! `report/model`.
//!
//! Always: a text of others' is masked, made visible, and then text: escaped in the markup, a text node by the script. Data is in
//! base64, of which no markup can be made. The page's policy lets run this script alone, and load nothing.

mod sections;
mod sums;

#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::tags;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::model::data;
use super::model::texts::{MAX_PACKED_BYTES, Texts, pack};
use super::{RunEvent, TimedEvent};
use sections::Sections;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// The page of the record in `dir`; `mask` puts `***` for each secret.
pub(super) fn render(events: &[TimedEvent], dir: &Path, mask: &dyn Fn(&str) -> String) -> String {
    let mut texts = Texts::new(mask, MAX_PACKED_BYTES);
    let mut data = data::read(events, dir, &mut texts);
    let (parts, cut) = texts.into_parts();
    if cut > 0 {
        data.left_out
            .push(format!("{cut} long texts are not on this page, or not to their end: transcript.jsonl has them."));
    }
    let left_out = data.left_out.clone();
    let events: Vec<&RunEvent> = events.iter().map(|(_, event)| event).collect();
    let sections = Sections::new(&events, dir, mask);
    let (title, _) = sections.title();
    let body = html! {
        (sections.render(&left_out))
        (packed("data", &pack(&data)))
        @for (at, part) in parts.iter().enumerate() {
            @if let Some(part) = part { (packed(&format!("part-{at}"), part)) }
        }
    };
    whole(&title, &body, Some(SCRIPT))
}

/// A page of its own, with this body and at its end the script.
pub(super) fn whole(title: &str, body: &Markup, script: Option<&str>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // First of all: nothing below it may load or run anything, whatever others have said.
                meta http-equiv="Content-Security-Policy" content=(policy(script));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @if let Some(script) = script { script { (PreEscaped(script)) } }
            }
        }
    };
    page.into_string()
}

/// A block of data, which no browser runs.
fn packed(id: &str, base64: &str) -> Markup {
    html! { script id=(id) type="application/octet-stream" { (PreEscaped(base64)) } }
}

/// Nothing may be loaded, sent, framed or based elsewhere; the style and this script alone count, by their hashes; and no text becomes markup.
fn policy(script: Option<&str>) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let script = script.map_or_else(String::new, |script| format!(" script-src 'sha256-{}';", hash(script)));
    format!(
        "default-src 'none'; style-src 'sha256-{}';{script} base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE)
    )
}
