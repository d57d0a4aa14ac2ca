//! The guest's trust in the door that ends its TLS.

use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::STEP_TIMEOUT;
use crate::backend::{Bottle, BottleError, Exec, Side, finish, succeed};

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
    let fingerprint = fingerprint(&pem)?;
    let directory = ca.system_file.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let script = format!(
        "command -v update-ca-certificates >/dev/null 2>&1 && test -d '{directory}' || exit {NO_TOOL}; cat > '{}' && \
         update-ca-certificates && test -s '{}'",
        ca.system_file, ca.system_bundle
    );
    let mut exec = Exec::shell(&script).by_root().in_dir("/");
    exec.stdin = Some(pem.clone());
    let done = finish(bottle, exec, STEP_TIMEOUT).await?;
    let naming = |file: &str| ca.variables.iter().map(|name| (name.clone(), file.to_owned())).collect();
    let summary = |how: &str| format!("{} CA, SHA-256 fingerprint {fingerprint}, {how}", ca.door.name());
    match done.code {
        0 => Ok((summary("in the system's trust store"), naming(&ca.system_bundle))),
        NO_TOOL => {
            let mut exec = Exec::guest(["sh", "-c", "cat > \"$1\"", "sh", &ca.own_file]).in_dir("/");
            exec.stdin = Some(pem);
            succeed(bottle, exec, STEP_TIMEOUT).await?;
            Ok((summary(&format!("in {} and named by variables", ca.own_file)), naming(&ca.own_file)))
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

/// SHA-256 of the certificate's DER form, in the notation of `openssl x509 -fingerprint`.
fn fingerprint(pem: &[u8]) -> Result<String, BottleError> {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(pem);
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .map_err(|error| BottleError::new("failed to read the CA's certificate", error))?;
    Ok(Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}
