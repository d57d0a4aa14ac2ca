//! The bill of materials and the licences of what a release has: every crate that is linked into its programs, and gitleaks.
//!
//! Both come from `cargo metadata` alone, so that the same commit gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// The programs of a release.
const PROGRAMS: [&str; 3] = ["bottle-runner", "bottle-link", "bottle-sidecars"];
/// How a package's files with its licence are called, in upper case.
const LICENCE_FILES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// What cargo says about one release: the packages in it, and where each came from.
pub struct Bill {
    version: String,
    packages: BTreeMap<String, Package>,
}

/// A crate that is linked into a program.
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Its directory, where its licence lies.
    dir: String,
    /// SHA-256 of the archive that it came in; none for a crate of this workspace.
    checksum: Option<String>,
    /// The ids of the packages that it uses.
    uses: Vec<String>,
}

impl Package {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// gitleaks, which is in the archive beside the programs.
pub struct Gitleaks<'a> {
    /// Its version, without a `v`.
    pub version: &'a str,
    /// The text of its licence.
    pub licence: &'a str,
}

impl Bill {
    /// Reads what the programs have on this target.
    ///
    /// # Errors
    /// Says what cargo could not say, or which package names no licence.
    pub fn read(root: &Path, target: &str) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target])
            .current_dir(root)
            .output()
            .map_err(|error| format!("starting cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("`cargo metadata`: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let metadata = serde_json::from_slice(&output.stdout).map_err(|error| format!("`cargo metadata`: {error}"))?;
        let path = root.join("Cargo.lock");
        let lock = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::from_metadata(&metadata, &lock)
    }

    fn from_metadata(metadata: &Value, lock: &str) -> Result<Self, String> {
        let checksums = checksums(lock)?;
        let known: BTreeMap<&str, &Value> = list(&metadata["packages"]).map(|one| (text(&one["id"]), one)).collect();
        let nodes: BTreeMap<&str, &Value> =
            list(&metadata["resolve"]["nodes"]).map(|one| (text(&one["id"]), one)).collect();
        let members: BTreeSet<&str> = list(&metadata["workspace_members"]).map(text).collect();
        let mut next: Vec<&str> = vec![];
        for program in PROGRAMS {
            let found = members.iter().find(|id| known.get(**id).is_some_and(|one| one["name"] == program));
            next.push(found.ok_or_else(|| format!("the workspace has no {program}"))?);
        }
        let runner = known[next[0]];
        let (version, mut packages) = (text(&runner["version"]).to_owned(), BTreeMap::new());
        while let Some(id) = next.pop() {
            if packages.contains_key(id) {
                continue;
            }
            let (one, node) = (known.get(id), nodes.get(id));
            let (Some(one), Some(node)) = (one, node) else { return Err(format!("cargo does not say what {id} is")) };
            let uses: Vec<&str> =
                list(&node["deps"]).filter(|dep| is_linked(dep)).map(|dep| text(&dep["pkg"])).collect();
            next.extend(&uses);
            packages.insert(id.to_owned(), package(one, &uses, &checksums)?);
        }
        Ok(Self { version, packages })
    }

    /// The bill in CycloneDX's JSON, version 1.5; `when` is its time in RFC 3339.
    pub fn cyclonedx(&self, gitleaks: &Gitleaks<'_>, when: &str) -> String {
        let component = |package: &Package| {
            let mut one = json!({
                "type": "library", "bom-ref": package.purl(), "name": package.name, "version": package.version,
                "licenses": [{"expression": package.licence}], "purl": package.purl(),
            });
            if let Some(checksum) = &package.checksum {
                one["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
            }
            one
        };
        let scanner = format!("pkg:golang/github.com/zricethezav/gitleaks/v8@v{}", gitleaks.version);
        let ours = format!("pkg:generic/claude-bottle@{}", self.version);
        let mut components: Vec<Value> = self.packages.values().map(component).collect();
        components.push(json!({
            "type": "application", "bom-ref": scanner, "name": "gitleaks", "version": gitleaks.version,
            "licenses": [{"license": {"id": "MIT"}}], "purl": scanner,
        }));
        let by_id = |id: &String| self.packages.get(id).map(Package::purl);
        let mut uses: Vec<Value> = self
            .packages
            .values()
            .map(|one| {
                let used: BTreeSet<String> = one.uses.iter().filter_map(by_id).collect();
                json!({"ref": one.purl(), "dependsOn": used})
            })
            .collect();
        let programs = self.packages.values().filter(|one| PROGRAMS.contains(&one.name.as_str())).map(Package::purl);
        let roots: Vec<String> = programs.chain([scanner]).collect();
        uses.push(json!({"ref": ours, "dependsOn": roots}));
        let bill = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"timestamp": when, "component": {
                "type": "application", "bom-ref": ours, "name": "claude-bottle", "version": self.version, "purl": ours,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            }},
            "components": components, "dependencies": uses,
        });
        format!("{bill:#}\n")
    }

    /// Every licence's text, each once, below the packages that it is for.
    ///
    /// # Errors
    /// Says which directory could not be read.
    pub fn licences(&self, gitleaks: &Gitleaks<'_>) -> Result<String, String> {
        let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut without = BTreeSet::new();
        for package in self.packages.values().filter(|one| one.checksum.is_some()) {
            let name = format!("{} {} ({})", package.name, package.version, package.licence);
            let found = licence_texts(Path::new(&package.dir))?;
            if found.is_empty() {
                without.insert(name.clone());
            }
            for text in found {
                texts.entry(text).or_default().insert(name.clone());
            }
        }
        texts
            .entry(gitleaks.licence.trim().to_owned())
            .or_default()
            .insert(format!("gitleaks {} (MIT)", gitleaks.version));
        let mut page =
            "The licences of what is in this archive beside claude-bottle itself, whose own are in LICENSE-MIT and \
                        LICENSE-APACHE.\n"
                .to_owned();
        if !without.is_empty() {
            page.push_str("\nThese packages name their licence and carry no text of it:\n");
            without.iter().for_each(|name| page.push_str(&format!("  {name}\n")));
        }
        // By their first package, which people look for.
        let mut texts: Vec<(&String, &BTreeSet<String>)> = texts.iter().collect();
        texts.sort_by_key(|(text, names)| (names.first(), text.len()));
        for (text, names) in texts {
            page.push_str(&format!("\n{}\n", "=".repeat(100)));
            names.iter().for_each(|name| page.push_str(&format!("{name}\n")));
            page.push_str(&format!("{}\n\n{text}\n", "-".repeat(100)));
        }
        Ok(page)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a dependency is one of the program, and not only of its tests or of what builds it.
fn is_linked(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn package(one: &Value, uses: &[&str], checksums: &BTreeMap<String, String>) -> Result<Package, String> {
    let (name, version) = (text(&one["name"]).to_owned(), text(&one["version"]).to_owned());
    // Before SPDX's expressions crates.io took a slash.
    let licence = text(&one["license"]).replace('/', " OR ").replace("  ", " ");
    if licence.is_empty() {
        return Err(format!("{name} {version} names no licence"));
    }
    let dir = text(&one["manifest_path"]).trim_end_matches("/Cargo.toml").to_owned();
    let checksum = checksums.get(&format!("{name} {version}")).cloned();
    if !one["source"].is_null() && checksum.is_none() {
        return Err(format!("Cargo.lock has no checksum of {name} {version}"));
    }
    Ok(Package { name, version, licence, dir, checksum, uses: uses.iter().map(|id| (*id).to_owned()).collect() })
}

/// The checksums of `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<String, String>, String> {
    let lock: toml::Table = toml::from_str(lock).map_err(|error| format!("Cargo.lock: {error}"))?;
    let packages = lock.get("package").and_then(toml::Value::as_array).ok_or("Cargo.lock has no packages")?;
    let of = |one: &toml::Value, key: &str| one.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let found = packages
        .iter()
        .filter_map(|one| Some((format!("{} {}", of(one, "name")?, of(one, "version")?), of(one, "checksum")?)));
    Ok(found.collect())
}

/// The texts of the licences in a package's directory.
fn licence_texts(dir: &Path) -> Result<BTreeSet<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if LICENCE_FILES.iter().any(|file| name.starts_with(file)) && entry.path().is_file() {
            let bytes = fs::read(entry.path()).map_err(failed)?;
            texts.insert(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned());
        }
    }
    texts.remove("");
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(licence: &str) -> Value {
        let package = |name: &str, source: Option<&str>, licence: &str| {
            json!({"id": name, "name": name, "version": "1.0.0", "license": licence, "source": source,
                   "manifest_path": "/nowhere/Cargo.toml"})
        };
        let dep = |name: &str, kind: Option<&str>| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        json!({
            "workspace_members": PROGRAMS,
            "packages": [package("bottle-runner", None, "MIT"), package("bottle-link", None, "MIT"),
                         package("bottle-sidecars", None, "MIT"), package("used", Some("registry"), licence),
                         package("tested", Some("registry"), "GPL-3.0")],
            "resolve": {"nodes": [
                {"id": "bottle-runner", "deps": [dep("used", None), dep("tested", Some("dev"))]},
                {"id": "bottle-link", "deps": []}, {"id": "bottle-sidecars", "deps": [dep("tested", Some("build"))]},
                {"id": "used", "deps": []}, {"id": "tested", "deps": []},
            ]},
        })
    }

    const LOCK: &str = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nchecksum = \"00ff\"\n";

    #[test]
    fn only_what_is_linked_is_in_the_bill() {
        let bill = Bill::from_metadata(&metadata("MIT/Apache-2.0"), LOCK).expect("a bill");
        let names: Vec<&str> = bill.packages.values().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["bottle-link", "bottle-runner", "bottle-sidecars", "used"]);
        assert_eq!(bill.packages["used"].licence, "MIT OR Apache-2.0");
        let gitleaks = Gitleaks { version: "8.0.0", licence: "text" };
        let text = bill.cyclonedx(&gitleaks, "2026-01-01T00:00:00Z");
        assert!(text.contains("pkg:cargo/used@1.0.0") && text.contains("00ff") && !text.contains("tested"), "{text}");
    }

    #[test]
    fn what_has_no_licence_or_no_checksum_is_refused() {
        let said = |licence, lock| Bill::from_metadata(&metadata(licence), lock).err().unwrap_or_default();
        assert_eq!(said("", LOCK), "used 1.0.0 names no licence");
        assert_eq!(said("MIT", "package = []\n"), "Cargo.lock has no checksum of used 1.0.0");
    }
}
