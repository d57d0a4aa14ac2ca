//! Servers of `tests/fixtures` over TLS, the stand-in for the model's API (`model_api.py`) among them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::in_repository;
use crate::process::{Running, python};
use crate::tls::Certificates;
use crate::world::World;

/// Script of the fixtures that serves over TLS; ended with its test.
#[derive(Debug)]
pub struct Server {
    _process: Running,
    /// Its port.
    pub port: String,
    /// A second one, of a script that prints two.
    pub other: Option<String>,
    /// File with the certificate of who vouches for it.
    pub authority: PathBuf,
    /// Its log, a JSON line a request.
    pub log: PathBuf,
}

impl Server {
    /// Starts `tests/fixtures/SCRIPT CERTIFICATE KEY LOG ADDRESS MORE…`, which prints its port, under these DNS names.
    pub fn start(world: &World, script: &str, address: &str, names: &[&str], more: &[&str]) -> Self {
        Self::start_by(python(), world, script, address, names, more)
    }

    /// Starts the same by this Python.
    pub fn start_by(
        mut command: Command,
        world: &World,
        script: &str,
        address: &str,
        names: &[&str],
        more: &[&str],
    ) -> Self {
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let made = Certificates::make(&world.path(&format!("tls-{script}")), &names);
        let log = world.path("requests.jsonl");
        command.arg(in_repository("tests/fixtures").join(script)).args([&made.certificate, &made.key, &log]);
        command.arg(address).args(more).env("TMPDIR", world.path("home")).stdout(Stdio::piped());
        let mut process = Running::new(command.spawn().expect("python3"));
        let printed = process.first_line();
        let mut ports = printed.split_whitespace().map(str::to_owned);
        let (port, other) = (ports.next().expect("a port"), ports.next());
        Self { _process: process, port, other, authority: made.authority, log }
    }
}
