//! What is no secret makes no finding: noise of every kind, by count.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_scan::dlp::{DataKind, Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};

use super::make::Secrets;

/// Bytes without a pattern, by a seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(count);
    out
}

/// An image's request to a model, and other bodies of noise.
fn bodies(seed: u64, size: usize) -> [(&'static str, Vec<u8>); 4] {
    let bytes = noise(seed, size);
    let once = STANDARD.encode(&bytes);
    let image = format!(r#"{{"content":[{{"type":"image","source":{{"media_type":"image/png","data":"{once}"}}}}]}}"#);
    let twice = format!(r#"{{"data":"{}"}}"#, STANDARD.encode(&once));
    [
        ("noise", bytes.clone()),
        ("image", image.into_bytes()),
        ("twice", twice.into_bytes()),
        ("hex", hex::encode(&bytes).into_bytes()),
    ]
}

/// How many bodies of each kind are findings, by rule.
fn findings(count: u64, size: usize) -> BTreeMap<(&'static str, String), u64> {
    let rules = Rules::with(&[], &BTreeSet::from(DataKind::ALL), &[]).expect("rules");
    let name = SecretName::parse("ESCAPE_KEY").expect("a name");
    let known = KnownSecrets::new(&[(name, Secret::new(Secrets::real().known.into_bytes()))]).expect("a secret");
    let next = std::sync::atomic::AtomicU64::new(0);
    let found = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    for (kind, body) in bodies(seed, size) {
                        for scope in [Scope::Model, Scope::All] {
                            let search = Search { known: &known, rules: Some((&rules, scope)) };
                            if let Some(finding) = search.find(&body) {
                                let rule = format!("{scope:?} {}", finding.rule);
                                *found.lock().expect("a lock").entry((kind, rule)).or_insert(0) += 1;
                            }
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("a lock")
}

#[test]
fn noise_is_no_finding() {
    assert_eq!(findings(12, 1 << 20), BTreeMap::new());
}

/// 0 in 10,000: takes a quarter of an hour.
#[test]
#[ignore = "minutes: run by scripts/test --deep"]
fn much_noise_is_no_finding() {
    assert_eq!(findings(10_000, 1 << 20), BTreeMap::new());
}
