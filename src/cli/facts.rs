//! The facts of this machine and of the job that it may be in.

use bottle_plan::facts::{Ci, ForgeKind, HostFacts};
use bottle_types::address::without_userinfo;

use super::task_args::{BackendArg, TaskArgs};
use crate::exit::Failure;
use crate::forge;
use crate::host::{self, Checkout, Environment};

pub(super) async fn host_facts(
    args: &TaskArgs,
    checkout: Option<&Checkout>,
    ci: Option<Ci>,
    environment: &Environment,
) -> Result<HostFacts, Failure> {
    let state_root = environment.state_root().ok_or_else(|| {
        Failure::machine("there is no place for run records: HOME is not set")
            .hint("set BOTTLE_STATE_DIR to a directory")
    })?;
    let state_root = std::path::absolute(&state_root).map_err(Failure::machine)?;
    let best = match args.backend {
        BackendArg::Auto => Some(crate::backend::best().await),
        _ => None,
    };
    let passed = best.iter().flat_map(|best| &best.passed);
    Ok(HostFacts {
        seed: host::run_id_suffix()?,
        started_at: host::now(),
        state_root: state_root.display().to_string(),
        home: environment.home().map(|home| home.display().to_string()),
        variables: environment.names().map(str::to_owned).collect(),
        checkout: checkout.map(|checkout| bottle_plan::facts::CheckoutFacts {
            path: checkout.root.display().to_string(),
            origin: checkout.origin.as_ref().map(ToString::to_string),
            branch: checkout.branch.clone(),
            head: checkout.head.clone(),
        }),
        ci,
        passed_over: passed.map(|(backend, why)| format!("not {}: {why}", backend.name())).collect(),
        backend: best.map_or(HostFacts::default().backend, |best| best.backend),
        host_ca_bundle: environment.ca_bundle().map(|path| path.display().to_string()),
        proxy: environment.proxy(),
        hosts: host::hosts_file(),
        tools: host::tools(environment)?,
        ..HostFacts::default()
    })
}

/// The job of GitHub Actions, Gitea or Forgejo that this is, if it is one.
pub(super) async fn ci(environment: &Environment) -> Result<Option<Ci>, Failure> {
    if environment.get("GITHUB_ACTIONS").is_none() {
        return Ok(None);
    }
    let needed = |name: &str| {
        environment.get(name).map(str::to_owned).ok_or_else(|| {
            Failure::input(format_args!("this is a job of Actions, and {name} is not set"))
                .hint("run it as a step of the job, with the job's environment")
        })
    };
    let forge = forge::kind(environment).await?;
    let server_url = without_userinfo(&needed("GITHUB_SERVER_URL")?);
    let (server_url, repository) = (server_url, needed("GITHUB_REPOSITORY")?);
    let run_id = environment.get("GITHUB_RUN_ID").unwrap_or_default().to_owned();
    // Gitea's pages are by the run's number in its repository.
    let run = match forge {
        ForgeKind::Github => &run_id,
        ForgeKind::Gitea => environment.get("GITHUB_RUN_NUMBER").unwrap_or(&run_id),
    };
    let run_url = format!("{}/{repository}/actions/runs/{run}", server_url.trim_end_matches('/'));
    let started_for = environment.get("GITHUB_REF").map(str::to_owned);
    Ok(Some(Ci { forge, server_url, repository, run_url, run_id, started_for, base: None }))
}
