//! The escape suite at the library's level: `cases.toml` has the cases. The same cases go through the real daemons in
//! `bottle-sidecars`' tests.

mod forms;
mod kinds;
#[expect(unreachable_pub, dead_code, reason = "bottle-sidecars' tests take it, too")]
#[path = "make.rs"]
mod make;
mod noise;
mod random;

use bottle_scan::dlp::{Finding, Head, Mode, Packing, Rules, Scope, Search, Stream, head};
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};

use make::{Case, Made, Secrets, Suite};

struct World {
    suite: Suite,
    rules: Rules,
    known: KnownSecrets,
}

impl World {
    fn new() -> Self {
        let suite = toml::from_str(include_str!("cases.toml")).expect("cases");
        let name = SecretName::parse("ESCAPE_KEY").expect("a name");
        let known = KnownSecrets::new(&[(name, Secret::new(Secrets::real().known.into_bytes()))]).expect("a secret");
        Self { suite, rules: Rules::builtin().expect("rules"), known }
    }

    /// The finding, or the body as it went out.
    fn run(&self, case: &Case, made: &Made) -> Result<Vec<u8>, Finding> {
        let scope = if case.model { Scope::Model } else { Scope::All };
        let search = Search { known: &self.known, rules: Some((&self.rules, scope)) };
        let headers: Vec<(&str, &[u8])> =
            made.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        if let Some((finding, _)) = head(search, Head { target: &made.target, host: &made.host, headers: &headers }) {
            return Err(finding);
        }
        let encodings = headers.iter().filter(|(name, _)| *name == "content-encoding");
        let encodings: Vec<_> = encodings.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        let packings = Packing::declared(&encodings.join(","))?;
        let mut stream = Stream::packed(&packings);
        let mut out = vec![];
        for chunk in made.body.chunks(if case.chunks == 0 { 40_000 } else { case.chunks }) {
            out.extend(stream.push(search, chunk, Mode::Block)?);
        }
        out.extend(stream.finish(search, Mode::Block)?);
        Ok(out)
    }
}

#[test]
fn every_way_out_is_found_and_every_honest_request_passes() {
    let world = World::new();
    assert!(world.suite.case.len() >= 60, "{}", world.suite.case.len());
    let (real, harmless) = (Secrets::real(), Secrets::harmless());
    let mut wrong = vec![];
    for case in &world.suite.case {
        match world.run(case, &case.make(&real, false)) {
            Ok(_) => wrong.push(format!("{}: nothing was found", case.name)),
            Err(finding) => {
                let rule = finding.rule.to_string();
                let secret = ["known-secret:ESCAPE_KEY", "github-pat"].contains(&rule.as_str());
                let expected = if case.expect.is_empty() { secret } else { rule.starts_with(&case.expect) };
                if !expected {
                    wrong.push(format!("{}: {finding:?}", case.name));
                }
            }
        }
        let made = case.make(&harmless, true);
        match world.run(case, &made) {
            Ok(body) if body == made.body => {}
            Ok(_) => wrong.push(format!("{}: the honest body was changed", case.name)),
            Err(finding) => wrong.push(format!("{}: the honest one was blocked: {finding:?}", case.name)),
        }
    }
    for case in &world.suite.honest {
        let made = case.make(&harmless, true);
        match world.run(case, &made) {
            Ok(body) if body == made.body => {}
            Ok(_) => wrong.push(format!("{}: the body was changed", case.name)),
            Err(finding) => wrong.push(format!("{}: it was blocked: {finding:?}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), world.suite.case.len(), wrong.join("\n"));
}

#[test]
fn no_cut_changes_a_verdict() {
    let world = World::new();
    let real = Secrets::real();
    for case in &world.suite.case {
        let made = case.make(&real, false);
        if made.body.is_empty() || made.body.len() > 200_000 {
            continue;
        }
        let whole = world.run(&Case { chunks: made.body.len(), ..case.clone() }, &made);
        for chunks in [1, 3, 64, 4095, 33_000] {
            let cut = world.run(&Case { chunks, ..case.clone() }, &made);
            assert_eq!(cut, whole, "{} in chunks of {chunks}", case.name);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads the repository")]
fn nothing_is_found_in_our_own_sources() {
    let world = World::new();
    let nothing = KnownSecrets::new(&[]).expect("nothing");
    let search = Search { known: &nothing, rules: Some((&world.rules, Scope::All)) };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut dirs: Vec<_> =
        ["crates", "src", "tests", "docs", "images", "scripts", "schema"].map(|dir| root.join(dir)).into();
    let mut read = 0;
    let mut found = vec![];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            read += bytes.len();
            if let Some(finding) = search.find(&bytes) {
                found.push(format!("{}: {finding:?}", path.display()));
            }
        }
    }
    found.extend(
        search.find(&std::fs::read(root.join("Cargo.lock")).expect("a file")).map(|finding| format!("{finding:?}")),
    );
    assert!(read > 1_000_000, "only {read} bytes");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
