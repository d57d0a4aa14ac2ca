//! The guest's trust in the door that ends its TLS.

use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{STEP_TIMEOUT, java};
use crate::backend::{Bottle, BottleError, Exec, Side, finish, succeed};
use crate::host;

/// The doors may take this long to start.
const DOOR_START_TIMEOUT: Duration = Duration::from_secs(30);
/// The exit code by which the script says that the image has no `update-ca-certificates`.
const NO_TOOL: i64 = 77;

/// Puts the CA into the system's trust store where the image can, else beside it. The usual variables name the store, or the
/// file: Node and Python's clients bring their own list of authorities, whatever the system trusts. They are returned, with
/// the fingerprint.
pub(super) async fn provision(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
) -> Result<(String, Vec<(String, String)>), BottleError> {
    let ca = &plan.guest.ca;
    let pem = certificate(bottle, &ca.source).await?;
    let der = der(&pem)?;
    let fingerprint: Vec<String> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = fingerprint.join(":");
    let java = octal(&java::trust_store(&der, host::unix_seconds() * 1000));
    let directory = ca.system_file.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let script = format!(
        "command -v update-ca-certificates >/dev/null 2>&1 && test -d '{directory}' || exit {NO_TOOL}; cat > '{}' && \
         printf '{java}' > '{}' && update-ca-certificates && test -s '{}'",
        ca.system_file,
        java::beside(&ca.system_file),
        ca.system_bundle
    );
    let mut exec = Exec::shell(&script).by_root().in_dir("/");
    exec.stdin = Some(pem.clone());
    let done = finish(bottle, exec, STEP_TIMEOUT).await?;
    let naming = |file: &str, own: &str| {
        let named = ca.variables.iter().map(|name| (name.clone(), file.to_owned()));
        named.chain([java::variable(&plan.guest.env, own)]).collect()
    };
    let summary = |how: &str| format!("{} CA, SHA-256 fingerprint {fingerprint}, {how}", ca.door.name());
    match done.code {
        0 => Ok((summary("in the system's trust store"), naming(&ca.system_bundle, &ca.system_file))),
        NO_TOOL => {
            let script = format!("cat > \"$1\" && printf '{java}' > \"$2\"");
            let store = java::beside(&ca.own_file);
            let mut exec = Exec::guest(["sh", "-c", &script, "sh", &ca.own_file, &store]).in_dir("/");
            exec.stdin = Some(pem);
            succeed(bottle, exec, STEP_TIMEOUT).await?;
            Ok((summary(&format!("in {} and named by variables", ca.own_file)), naming(&ca.own_file, &ca.own_file)))
        }
        code => Err(BottleError::new(format_args!("update-ca-certificates ended with {code}"), done.text().trim())),
    }
}

/// The certificate, as soon as the door has made it.
async fn certificate(bottle: &dyn Bottle, path: &str) -> Result<Vec<u8>, BottleError> {
    let until = Instant::now() + bottle.patience(DOOR_START_TIMEOUT);
    // Asked for before it can be there, it would cost a process each time.
    let _ = tokio::time::timeout_at(until, bottle.opened()).await;
    loop {
        if let Some(tree) = bottle.copy_out(Side::Bundle, path).await?
            && let Some((_, bytes)) = tree.files().next()
            && bytes.ends_with(b"-----END CERTIFICATE-----\n")
        {
            return Ok(bytes.to_vec());
        }
        if Instant::now() >= until {
            return Err(BottleError::new("failed to get the CA's certificate", format_args!("{path} is not there")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The certificate's DER form.
fn der(pem: &[u8]) -> Result<Vec<u8>, BottleError> {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(pem);
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .map_err(|error| BottleError::new("failed to read the CA's certificate", error))
}

/// Bytes as the shell's `printf` writes them out again.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}
