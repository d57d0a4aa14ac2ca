//! A signed record holds for openssl and for in-toto's own library, and nothing that was changed in it passes.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_testkit::{needed, said, sh};
use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Metadata;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PublicKey, SigningKey, check_attestation, sign, value};

/// A signed record and its keys, as openssl makes them.
struct Signed {
    dir: TempDir,
}

impl Signed {
    fn new() -> Self {
        let signed = Self { dir: tempfile::tempdir().expect("a directory") };
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
        sh(&["cp", "-R", &fixture.display().to_string(), &signed.record().display().to_string()]);
        std::fs::create_dir(signed.record().join("files")).expect("a directory");
        std::fs::write(signed.record().join("files/a b.txt"), "handed in").expect("a file");
        for name in ["key", "other"] {
            let (private, public) = (signed.path(&format!("{name}.pem")), signed.path(&format!("{name}.pub.pem")));
            sh(&["openssl", "genpkey", "-algorithm", "ed25519", "-out", &private]);
            sh(&["openssl", "pkey", "-in", &private, "-pubout", "-out", &public]);
        }
        let metadata: Metadata = value(&signed.record(), RecordFile::Metadata).expect("metadata.json");
        let key = SigningKey::parse(&std::fs::read(signed.path("key.pem")).expect("a key")).expect("a key");
        let (text, about) = sign(&signed.record(), &metadata, &key).expect("it is signed");
        assert_eq!(about.commit, metadata.outcome.and_then(|outcome| outcome.commit).map(|id| id.to_string()));
        std::fs::write(signed.attestation(), &text).expect("the attestation");
        let metadata: Metadata = value(&signed.record(), RecordFile::Metadata).expect("metadata.json");
        assert_eq!(sign(&signed.record(), &metadata, &key).expect("it is signed").0, text, "the same text each time");
        signed
    }

    fn record(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn attestation(&self) -> PathBuf {
        self.record().join(RecordFile::Attestation)
    }

    fn envelope(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.attestation()).expect("the attestation")).expect("JSON")
    }

    /// What does not hold by this key.
    fn problems(&self, key: &str, commit: Option<&str>) -> Vec<String> {
        let pem = std::fs::read(self.path(&format!("{key}.pub.pem"))).expect("a key");
        check_attestation(&self.record(), &PublicKey::parse(&pem).expect("a key"), commit).1
    }

    /// The envelope with another payload, signed anew by openssl.
    fn resign(&self, change: impl FnOnce(&mut Value)) {
        let mut envelope = self.envelope();
        let payload = STANDARD.decode(envelope["payload"].as_str().expect("a text")).expect("base64");
        let mut statement: Value = serde_json::from_slice(&payload).expect("a statement");
        change(&mut statement);
        let payload = statement.to_string();
        std::fs::write(self.path("pae"), pae(&payload)).expect("a file");
        sh(&[
            "openssl",
            "pkeyutl",
            "-sign",
            "-inkey",
            &self.path("key.pem"),
            "-rawin",
            "-in",
            &self.path("pae"),
            "-out",
            &self.path("sig"),
        ]);
        envelope["payload"] = STANDARD.encode(payload).into();
        envelope["signatures"][0]["sig"] = STANDARD.encode(std::fs::read(self.path("sig")).expect("a file")).into();
        std::fs::write(self.attestation(), envelope.to_string()).expect("the attestation");
    }
}

/// What is signed, by the specification of DSSE.
fn pae(payload: &str) -> String {
    let kind = "application/vnd.in-toto+json";
    format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len())
}

#[test]
fn openssl_and_in_totos_library_take_it() {
    let signed = Signed::new();
    assert_eq!(signed.problems("key", None), Vec::<String>::new());
    let envelope = signed.envelope();
    let payload = STANDARD.decode(envelope["payload"].as_str().expect("a text")).expect("base64");
    std::fs::write(signed.path("pae"), pae(std::str::from_utf8(&payload).expect("UTF-8"))).expect("a file");
    let sig = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().expect("a text")).expect("base64");
    std::fs::write(signed.path("sig"), sig).expect("a file");
    let verify = |key: &str| {
        let key = signed.path(&format!("{key}.pub.pem"));
        #[expect(clippy::disallowed_methods, reason = "a test has another program verify")]
        let output = Command::new("openssl")
            .args([
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                &key,
                "-rawin",
                "-in",
                &signed.path("pae"),
                "-sigfile",
                &signed.path("sig"),
            ])
            .output();
        output.expect("openssl").status.success()
    };
    assert!(verify("key") && !verify("other"));
    // The name of the key is what openssl makes of it.
    let sum = sh(&[
        "sh",
        "-c",
        &format!("openssl pkey -pubin -in '{}' -outform DER | sha256sum", signed.path("key.pub.pem")),
    ]);
    assert!(sum.starts_with(envelope["signatures"][0]["keyid"].as_str().expect("a text")));
    let read = |key: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/state/attestation_check.py");
        #[expect(clippy::disallowed_methods, reason = "a test has another program verify")]
        let output = Command::new(needed("BOTTLE_TEST_PYTHON"))
            .args([Path::new(script), &signed.attestation(), Path::new(&signed.path(&format!("{key}.pub.pem")))])
            .output()
            .expect("Python");
        (output.status.success(), said(&output))
    };
    let (is_good, told) = read("key");
    assert!(is_good, "{told}");
    let read_again: Value = serde_json::from_str(&told).expect("JSON");
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(signed.record().join("metadata.json")).expect("a file")).expect("JSON");
    assert_eq!(read_again["commit"], metadata["outcome"]["commit"]);
    assert!(read_again["commit"].is_string());
    let sum = sh(&["sha256sum", &signed.record().join("files/a b.txt").display().to_string()]);
    assert_eq!(read_again["files"]["files/a b.txt"].as_str(), sum.split(' ').next());
    assert!(read_again["files"]["report.html"].is_string() && read_again["files"]["attestation.dsse.json"].is_null());
    assert!(!read("other").0);
}

#[test]
fn what_was_changed_is_said_in_a_sentence() {
    let only = |signed: &Signed, words: &str| {
        let problems = signed.problems("key", None);
        assert!(problems.len() == 1 && problems[0].contains(words), "{words}: {problems:?}");
    };
    let signed = Signed::new();
    let problems = signed.problems("other", None);
    assert!(problems.len() == 1 && problems[0].contains("it is not signed by this key"), "{problems:?}");
    let other = "0".repeat(40);
    let problems = signed.problems("key", Some(&other));
    assert!(problems.len() == 1 && problems[0].ends_with(&format!("not about commit {other}")), "{problems:?}");
    // A file that was changed, one that is gone, one that is new.
    let path = |name: &str| signed.record().join(name);
    let first = std::fs::read(path("egress.jsonl")).expect("a file");
    std::fs::write(path("egress.jsonl"), &first[1..]).expect("a file");
    only(&signed, "egress.jsonl: it was changed after it was signed");
    std::fs::remove_file(path("egress.jsonl")).expect("a file");
    only(&signed, "egress.jsonl: it was signed, and is missing");
    std::os::unix::fs::symlink("/dev/null", path("egress.jsonl")).expect("a link");
    only(&signed, "egress.jsonl: it was signed, and is missing");
    std::fs::remove_file(path("egress.jsonl")).expect("a file");
    std::fs::write(path("egress.jsonl"), &first).expect("a file");
    std::fs::write(path("files/new"), "").expect("a file");
    only(&signed, "files/new: it was not there when the record was signed");
    std::fs::remove_file(path("files/new")).expect("a file");
    assert_eq!(signed.problems("key", None), Vec::<String>::new());
    // The envelope.
    let whole = signed.envelope();
    let text = whole.to_string();
    let mut twice = whole.clone();
    let sig = whole["signatures"][0].clone();
    twice["signatures"].as_array_mut().expect("a list").push(sig);
    let with = |at: &str, value: Value| {
        let mut envelope = whole.clone();
        *envelope.pointer_mut(at).expect(at) = value;
        envelope.to_string()
    };
    let payload = whole["payload"].as_str().expect("a text");
    let swapped = if payload.starts_with("eyJ") { payload.replacen("eyJ", "eyA", 1) } else { unreachable!() };
    for (text, words) in [
        (text[..text.len() / 2].to_owned(), "it is no DSSE envelope"),
        (String::new(), "it is no DSSE envelope"),
        (twice.to_string(), "it has 2 signatures, and one is what is made"),
        (with("/signatures", json!([])), "it has 0 signatures"),
        (with("/payloadType", json!("text/plain")), "it is a text/plain, and no statement of in-toto's"),
        (with("/payload", json!(swapped)), "it was changed after it was signed: the signature does not hold"),
        (with("/payload", json!("…")), "its payload is no base64"),
        (with("/signatures/0/sig", json!("")), "the signature does not hold"),
        (with("/signatures/0", json!({"sig": whole["signatures"][0]["sig"], "cert": "x"})), "it is no DSSE envelope"),
    ] {
        std::fs::write(signed.attestation(), text).expect("the attestation");
        only(&signed, words);
    }
    std::fs::write(signed.attestation(), vec![b' '; (16 << 20) + 1]).expect("the attestation");
    only(&signed, "it is larger than 16 MiB");
    std::fs::remove_file(signed.attestation()).expect("the attestation");
    only(&signed, "it is missing: nobody has signed this record");
    // The name of the key is a hint that nothing relies on.
    std::fs::write(signed.attestation(), with("/signatures/0/keyid", json!(""))).expect("the attestation");
    assert_eq!(signed.problems("key", None), Vec::<String>::new());
}

/// What the key's owner signs and we do not make is taken for nothing else.
#[test]
fn another_statement_by_the_same_key_is_no_records() {
    for (change, words) in [
        (
            &(|one: &mut Value| one["predicateType"] = json!("https://slsa.dev/provenance/v1")) as &dyn Fn(&mut Value),
            "it is a statement of another kind, https://slsa.dev/provenance/v1",
        ),
        (
            &|one: &mut Value| one["_type"] = json!("https://in-toto.io/Statement/v0.1"),
            "it is a statement of another kind",
        ),
        (&|one: &mut Value| one["more"] = json!(1), "it is no statement of a record"),
        (
            &|one: &mut Value| one["subject"][0]["digest"] = json!({"gitCommit": "0".repeat(40)}),
            "it is about commit 0000",
        ),
        (
            &|one: &mut Value| one["subject"][0]["digest"] = json!({"gitTree": "0".repeat(40)}),
            "it is no statement of a record",
        ),
        (&|one: &mut Value| one["subject"][0]["digest"] = json!({"sha256": "0".repeat(64)}), "it is about no commit"),
        (&|one: &mut Value| one["subject"][1] = one["subject"][2].clone(), "twice"),
        (
            &|one: &mut Value| one["subject"][1]["name"] = json!("../../etc/passwd"),
            "../../etc/passwd: it was signed, and is missing",
        ),
    ] {
        let signed = Signed::new();
        signed.resign(change);
        let problems = signed.problems("key", None);
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
    }
}

#[test]
fn a_key_is_of_the_one_kind() {
    let signed = Signed::new();
    let pem = |name: &str| std::fs::read(signed.path(name)).expect("a key");
    sh(&[
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        &signed.path("ec.pem"),
    ]);
    sh(&["openssl", "pkey", "-in", &signed.path("ec.pem"), "-pubout", "-out", &signed.path("ec.pub.pem")]);
    sh(&[
        "openssl",
        "pkey",
        "-in",
        &signed.path("key.pem"),
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        &signed.path("locked.pem"),
    ]);
    for (bytes, why) in [
        (pem("ec.pem"), "it is no Ed25519 key in PKCS#8"),
        (pem("locked.pem"), "it is encrypted, and nobody is asked for a passphrase"),
        (pem("key.pub.pem"), "it is no PKCS#8 key in PEM"),
        (b"hush".to_vec(), "it is no PKCS#8 key in PEM"),
        (vec![], "it is no PKCS#8 key in PEM"),
    ] {
        assert_eq!(SigningKey::parse(&bytes).err(), Some(why));
    }
    for (bytes, why) in [
        (pem("ec.pub.pem"), "it is no Ed25519 key"),
        (pem("key.pem"), "it is a private key; the public half is enough, and all that belongs here"),
        (pem("key.pub.pem")[..60].to_vec(), "it is no public key in PEM"),
        (vec![], "it is no public key in PEM"),
    ] {
        assert_eq!(PublicKey::parse(&bytes).err(), Some(why));
    }
}
