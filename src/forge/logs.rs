//! The logs of the jobs that failed, in whatever way the forge hands them out.

use super::http::{ApiCall, ForgeError, Http};
use super::wire::WireJobs;

/// Logs of more jobs would not fit into a prompt.
const MAX_JOBS: usize = 5;

/// The failed jobs among these, each with its log.
pub(super) async fn of_failed(
    http: &Http,
    jobs: ApiCall<'_>,
    (owner, name): (&str, &str),
) -> Result<Vec<(String, String)>, ForgeError> {
    let operation = jobs.operation;
    let jobs: WireJobs = http.send(jobs).await?;
    let mut logs = vec![];
    for job in jobs.jobs.into_iter().filter(|job| job.conclusion.as_deref() == Some("failure")).take(MAX_JOBS) {
        let id = job.id.to_string();
        let log = ApiCall::get(operation, vec!["repos", owner, name, "actions", "jobs", &id, "logs"]);
        // GitHub refers to another place, to which no token of its own goes.
        logs.push((job.name, http.send_for_text(log.or_elsewhere()).await?));
    }
    Ok(logs)
}
