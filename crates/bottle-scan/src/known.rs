//! The secrets that the bottle knows, found in whatever bytes, in the forms in which they get about.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, Match, MatchKind};
use base64::Engine as _;
use bottle_types::secret::{Secret, SecretName};

use crate::aws_keys::secret_texts;
use crate::dlp::coded::Coded;
use crate::dlp::keywords::{self, Long};
use crate::dlp::pieces::Pieces;
use crate::dlp::runs::Digits;

/// Shorter values can't be told from ordinary text, so they can be neither guarded nor masked.
pub const SHORTEST: usize = 8;
/// A line of a many-line value (a private key) is a secret of its own from this length on.
const SHORTEST_LINE: usize = 32;

/// `openssh-key-v1` in base64 (OpenSSH's PROTOCOL.key), and the length of a line as `ssh-keygen` writes it.
const OPENSSH: &[u8] = b"b3BlbnNzaC1rZXktdjE";
const OPENSSH_LINE: usize = 70;

/// Why a set of secrets can't be guarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KnownSecretsError {
    /// The value would be found everywhere.
    #[error("the value of {0} is shorter than {SHORTEST} characters: too short to be told from ordinary text")]
    TooShort(SecretName),
    /// The values are too many or too long for one automaton.
    #[error("the secrets can't be indexed: {0}")]
    TooLarge(String),
}

/// A searcher for the values of all secrets of a bottle: as they are, base64 (both alphabets, at any offset),
/// URL-encoded, JSON-escaped and in hex.
#[derive(Clone)]
pub struct KnownSecrets {
    names: Vec<SecretName>,
    /// For each pattern of the automaton, the index of its name.
    owners: Vec<usize>,
    automaton: AhoCorasick,
    /// The same forms: whether one is there at all is told many times faster.
    forms: Arc<Long>,
    longest: usize,
    /// The values themselves, for what is found by its beginning.
    values: Vec<(usize, Vec<u8>)>,
    coded: Arc<Coded>,
    pieces: Arc<Pieces>,
}

impl KnownSecrets {
    /// Makes the searcher; a value that is too short to guard is an error, an empty list is fine.
    pub fn new(secrets: &[(SecretName, Secret<Vec<u8>>)]) -> Result<Self, KnownSecretsError> {
        let mut forms = vec![];
        let mut values = vec![];
        let texts = secrets.iter().enumerate().flat_map(|(owner, (name, value))| {
            secret_texts(value.expose().trim_ascii()).into_iter().map(move |text| (owner, name, text))
        });
        for (owner, name, text) in texts {
            let value = text.trim_ascii();
            if value.len() < SHORTEST {
                return Err(KnownSecretsError::TooShort(name.clone()));
            }
            let mut own = BTreeSet::new();
            own.extend(spellings(value));
            values.push((owner, value.to_vec()));
            let lines: Vec<&[u8]> = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).collect();
            if lines.len() > 1 {
                for line in lines.iter().filter(|line| line.len() >= SHORTEST_LINE && !is_everyones(line)) {
                    own.extend(spellings(line));
                    values.push((owner, line.to_vec()));
                }
            }
            forms.extend(own.into_iter().map(|form| (owner, form)));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(forms.iter().map(|(_, form)| form))
            .map_err(|error| KnownSecretsError::TooLarge(error.to_string()))?;
        let spelled: Vec<_> =
            values.iter().flat_map(|(owner, value)| compact(value).into_iter().map(|form| (*owner, form))).collect();
        Ok(Self {
            forms: Arc::new(
                Long::new(forms.iter().map(|(owner, form)| (keywords::literal(form), *owner)).collect())
                    .map_err(KnownSecretsError::TooLarge)?,
            ),
            coded: Arc::new(Coded::new(values.iter().enumerate().map(|(index, (_, value))| (value.as_slice(), index)))),
            pieces: Arc::new(Pieces::new(&values, &spelled)),
            values,
            names: secrets.iter().map(|(name, _)| name.clone()).collect(),
            longest: forms.iter().map(|(_, form)| form.len()).max().unwrap_or(0),
            owners: forms.into_iter().map(|(owner, _)| owner).collect(),
            automaton,
        })
    }

    /// The first occurrence: whose value it is, and where; of one in pieces, about where.
    pub fn find(&self, haystack: &[u8]) -> Option<(&SecretName, Range<usize>)> {
        if let Some(found) = self.next(haystack, 0) {
            return Some((&self.names[self.owners[found.pattern().as_usize()]], found.range()));
        }
        if self.owners.is_empty() {
            return None;
        }
        let (owner, at) = self.find_pieces(haystack, &mut vec![])?;
        Some((&self.names[owner], at..at))
    }

    /// The first occurrence from `from` on.
    fn next(&self, haystack: &[u8], from: usize) -> Option<Match> {
        if self.owners.is_empty() {
            return None;
        }
        let at = self.forms.scan(haystack, from, |at, _| Some(at))?;
        self.automaton.find(Input::new(haystack).range(at..))
    }

    /// The name of the secret with this index.
    pub(crate) fn name(&self, owner: usize) -> &SecretName {
        &self.names[owner]
    }

    /// Whose value stands there in one of its usual forms, and where.
    pub(crate) fn find_raw(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        if self.owners.is_empty() {
            return None;
        }
        self.forms.scan(bytes, 0, |at, owner| Some((owner, at)))
    }

    /// Whose value the digits say, and at which of them.
    pub(crate) fn find_coded(&self, digits: &Digits) -> Option<(usize, usize)> {
        if self.owners.is_empty() {
            return None;
        }
        self.coded.scan(digits, self.longest.max(64), |text, index, at| {
            let (owner, value) = &self.values[index];
            text.starts_with(value).then_some((*owner, at))
        })
    }

    /// Whose value is there in pieces, and about where.
    pub(crate) fn find_pieces(&self, bytes: &[u8], letters: &mut Vec<u8>) -> Option<(usize, usize)> {
        self.pieces.find(bytes, letters)
    }

    /// The length of the longest form in bytes: a stream searched in pieces needs an overlap of one less.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The bytes with `***` in place of every occurrence.
    pub fn mask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(bytes.len());
        let mut done = 0;
        while let Some(found) = self.next(bytes, done) {
            masked.extend_from_slice(&bytes[done..found.start()]);
            masked.extend_from_slice(b"***");
            done = found.end();
        }
        masked.extend_from_slice(&bytes[done..]);
        masked
    }

    /// The text with `***` in place of every occurrence.
    pub fn mask_str(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }
}

impl std::fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownSecrets").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Tells a line that every private key has: the first and the last of a PEM file, and OpenSSH's first, which names the format, the
/// ciphers and the kind of key, and has nothing of the key.
fn is_everyones(line: &[u8]) -> bool {
    line.starts_with(b"-----") || (line.starts_with(OPENSSH) && line.len() <= OPENSSH_LINE)
}

/// Every form of one value that is looked for.
fn spellings(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec(), hex::encode(value).into_bytes(), hex::encode_upper(value).into_bytes()];
    for lower in [false, true] {
        forms.push(url_encoded(value, lower));
    }
    if let Ok(text) = std::str::from_utf8(value)
        && let Ok(json) = serde_json::to_string(text)
    {
        forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
    }
    for engine in [&base64::engine::general_purpose::STANDARD_NO_PAD, &base64::engine::general_purpose::URL_SAFE_NO_PAD]
    {
        // Base64 takes three bytes at a time, so what a value becomes depends on where it begins; only whole groups are
        // the same whatever stands around it.
        for skip in 0..3 {
            let whole = value.len().saturating_sub(skip) / 3 * 3;
            if whole >= 6 {
                forms.push(engine.encode(&value[skip..skip + whole]).into_bytes());
            }
        }
    }
    forms
}

/// Forms of which letters and digits are enough: in hex, base32 and base64, with whatever stands between.
fn compact(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![hex::encode(value).into_bytes()];
    forms.extend((0..5).map(|skip| base32(value, skip)));
    for skip in 0..3 {
        let whole = value.len().saturating_sub(skip) / 3 * 3;
        forms.push(base64::engine::general_purpose::STANDARD_NO_PAD.encode(&value[skip..skip + whole]).into_bytes());
    }
    let mut backwards = value.to_vec();
    backwards.reverse();
    forms.push(backwards);
    forms
}

/// The whole groups behind the first `skip` bytes in base32 (RFC 4648), as names of hosts carry bytes.
fn base32(value: &[u8], skip: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let rest = value.get(skip..).unwrap_or_default();
    let mut out = vec![];
    for group in rest.chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        out.extend((0..8).rev().map(|digit| ALPHABET[usize::try_from(bits >> (digit * 5) & 31).unwrap_or_default()]));
    }
    out
}

fn url_encoded(value: &[u8], lower: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(*byte);
        } else {
            let code = if lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
            out.extend_from_slice(code.as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: &str) -> KnownSecrets {
        let name = SecretName::parse("TOKEN").expect("a name");
        KnownSecrets::new(&[(name, Secret::new(value.as_bytes().to_vec()))]).expect("long enough")
    }

    #[test]
    fn every_form_is_found_and_masked() {
        let value = "s3cr/t+va\"lue=\u{e9}end";
        let known = known(value);
        let b64 = base64::engine::general_purpose::STANDARD;
        let mut texts = vec![
            value.to_owned(),
            hex::encode(value),
            String::from_utf8(url_encoded(value.as_bytes(), false)).expect("ASCII"),
            serde_json::to_string(value).expect("JSON"),
        ];
        texts.extend(["", "x", "xy"].map(|before| b64.encode(format!("{before}{value} and more"))));
        for text in texts {
            assert!(known.find(text.as_bytes()).is_some(), "{text}");
            assert!(known.find(&known.mask(text.as_bytes())).is_none(), "{text}");
        }
        assert!(known.find(b"nothing to see").is_none());
    }

    #[test]
    fn a_line_of_a_private_key_is_a_secret() {
        let line = "QyNTUxOQAAACDjKqp5Fc65tEnRulDqKii7Gm4B";
        // Put together here, so that this file is no finding of the gate's.
        let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {} PRIVATE KEY-----", "OPENSSH"));
        let known = known(&format!("{begin}\n{line}\nabc=\n{end}\n"));
        assert!(known.find(line.as_bytes()).is_some());
        assert!(known.find(begin.as_bytes()).is_none());
    }

    #[test]
    fn the_first_line_of_everyones_key_is_none() {
        // As ssh-keygen writes the format, the kind and the beginning of the key: 70 characters a line.
        let first = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
        let second = "QyNTUxOQAAACDjKqp5Fc65tEnRulDqKii7Gm4BQyNTUxOQAAACDjKqp5Fc65tEnRulDqKi";
        let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {} PRIVATE KEY-----", "OPENSSH"));
        let wrapped = known(&format!("{begin}\n{first}\n{second}\n{end}\n"));
        assert!(wrapped.find(first.as_bytes()).is_none());
        assert!(wrapped.find(second.as_bytes()).is_some());
        let unwrapped = known(&format!("{begin}\n{first}{second}\n{end}\n"));
        assert!(unwrapped.find(format!("{first}{second}").as_bytes()).is_some());
    }

    #[test]
    fn aws_keys_are_known_by_their_parts() {
        let name = SecretName::parse("AWS").expect("a name");
        let keys = br#"{"Version":1,"AccessKeyId":"an-id","SecretAccessKey":"a-long/secret+key","SessionToken":"a-long-token=="}"#;
        let known = KnownSecrets::new(&[(name, Secret::new(keys.to_vec()))]).expect("known");
        assert_eq!(known.mask_str("an-id a-long/secret+key a-long-token=="), "an-id *** ***");
    }

    #[test]
    fn a_short_value_is_refused() {
        let name = SecretName::parse("TOKEN").expect("a name");
        assert!(matches!(
            KnownSecrets::new(&[(name, Secret::new(b" abc\n".to_vec()))]),
            Err(KnownSecretsError::TooShort(_))
        ));
    }
}
