//! A review that nobody asks for, of what anybody may have proposed.

use bottle_policy::gate::signing::SigningPolicy;
use bottle_policy::route::Route;

use super::PlanError;
use super::upstreams::Upstreams;
use crate::task::{Source, Task};

/// Refuses a review of a fork's change that has a credential at its doors which a person would have to answer for: any but the model's, and that by
/// which the repository itself is read.
pub(super) fn check(
    task: &Task,
    routes: &[Route],
    upstreams: &Upstreams,
    signing: Option<&SigningPolicy>,
) -> Result<(), PlanError> {
    let from_fork = task.pull_request.as_ref().is_none_or(|pull| pull.from_fork);
    if !matches!(task.source, Source::Proposed(_)) || !from_fork {
        return Ok(());
    }
    let of_route = routes.iter().find(|route| route.auth.is_some() && !route.model);
    let of_route = of_route.map(|route| format!("the route to {} has one", route.host));
    let others = upstreams.others().find(|upstream| upstream.token.is_some() || upstream.identity.is_some());
    let of_upstream = others.map(|upstream| format!("the repository `{}` is read with one", upstream.name));
    let of_commits = signing.map(|_| "commits are signed with one".to_owned());
    of_route.or(of_upstream).or(of_commits).map_or(Ok(()), |what| Err(PlanError::CredentialBesideFork(what)))
}
