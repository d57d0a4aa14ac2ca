//! An authority of a test's own, and servers that it vouches for.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::world::{World, sh};

/// A script of the fixtures that serves over TLS on the engine's bridge address; ended with its test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: String,
    /// A second one, of a script that prints two.
    pub(crate) other: Option<String>,
    /// The file with the certificate of who vouches for it.
    pub(crate) authority: PathBuf,
    /// Its log, a JSON line a request.
    pub(crate) log: PathBuf,
}

impl Server {
    /// Starts `tests/fixtures/SCRIPT CERTIFICATE KEY LOG ADDRESS MORE…`, which prints its port, under these names.
    pub(crate) fn start(world: &World, script: &str, address: &str, names: &[&str], more: &[&str]) -> Self {
        let file = |name: &str| world.path(name).display().to_string();
        let (authority, authority_key, leaf, leaf_key) =
            (file("ca.pem"), file("ca.key"), file("leaf.pem"), file("leaf.key"));
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let run = |args: &[&str]| sh(&[&["openssl"], args].concat());
        run(&[
            &["req", "-x509"],
            &ec[..],
            &["-subj", "/CN=test authority", "-keyout", &authority_key, "-out", &authority],
        ]
        .concat());
        let request = file("leaf.csr");
        run(&[&["req"], &ec[..4], &["-nodes", "-subj", "/CN=test", "-keyout", &leaf_key, "-out", &request]].concat());
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let extensions = format!("subjectAltName={}\nbasicConstraints=CA:FALSE\n", names.join(","));
        let extensions = world.write("leaf.ext", &extensions).display().to_string();
        let sign = ["x509", "-req", "-days", "2", "-CAcreateserial"];
        let files =
            ["-in", &request, "-CA", &authority, "-CAkey", &authority_key, "-extfile", &extensions, "-out", &leaf];
        run(&[&sign[..], &files[..]].concat());
        let log = world.path("requests.jsonl");
        let python = std::env::var("BOTTLE_TEST_PYTHON").expect("BOTTLE_TEST_PYTHON: run the tests by scripts/test");
        let mut child = Command::new(python)
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(script))
            .args([&leaf, &leaf_key])
            .arg(&log)
            .arg(address)
            .args(more)
            .env("TMPDIR", world.path("home"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("a port");
        let mut ports = said.split_whitespace().map(str::to_owned);
        let (port, other) = (ports.next().expect("a port"), ports.next());
        Self { child, port, other, authority: authority.into(), log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
