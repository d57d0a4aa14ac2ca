//! An authority of a test's own, and a certificate that it signed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::sh;

/// Files of an authority, and of a server that it vouches for.
#[derive(Debug)]
pub struct Certificates {
    /// Certificate of the authority: `ca.pem`.
    pub authority: PathBuf,
    /// Certificate of the server: `cert.pem`.
    pub certificate: PathBuf,
    /// Private key of the server: `key.pem`.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in a directory, which is made, too. `names` are subjectAltNames as openssl has them: `IP:127.0.0.1`, `DNS:x.test`.
    pub fn make(dir: &Path, names: &[&str]) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        let file = |name: &str| dir.join(name).display().to_string();
        let [ca, ca_key, cert, key, request, extensions] =
            ["ca.pem", "ca.key", "cert.pem", "key.pem", "request", "extensions"].map(file);
        let text = format!("subjectAltName={}\nbasicConstraints=CA:FALSE\n", names.join(","));
        fs::write(&extensions, text).expect("a file");
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        // Each has a name of its own, as two authorities have: of two with one name, the wrong one is tried and its signature doubted.
        let subject = format!("/CN=test authority {}", dir.display().to_string().replace('/', " "));
        let made = ["-days", "2", "-subj", &subject, "-keyout", &ca_key, "-out", &ca];
        sh(&[&["openssl", "req", "-x509"], &ec[..], &made].concat());
        let asked = ["-subj", "/CN=test server", "-keyout", &key, "-out", &request];
        sh(&[&["openssl", "req"], &ec[..], &asked].concat());
        let sign = ["openssl", "x509", "-req", "-days", "2", "-CAcreateserial"];
        let files = ["-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-extfile", &extensions, "-out", &cert];
        sh(&[&sign[..], &files].concat());
        Self { authority: ca.into(), certificate: cert.into(), key: key.into() }
    }
}
