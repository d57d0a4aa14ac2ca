//! The connection to the engine, and its errors in words.

use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemVersion};
use bollard::query_parameters::{ListNetworksOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt as _;

use crate::backend::BottleError;
use crate::exit::Failure;

/// Between two questions whether a container has ended.
const WAIT_AGAIN: Duration = Duration::from_millis(200);

/// Connects as the docker command would (`DOCKER_HOST`, else the standard socket) and checks that the engine answers. It may be one that
/// can't run a bottle: what an earlier run has left on it is found and removed all the same.
pub(crate) async fn connect() -> Result<Docker, Failure> {
    let docker = Docker::connect_with_defaults().map_err(|error| down(&error))?;
    answered(docker.ping()).await?;
    Ok(docker)
}

/// Checks that the engine can run a bottle.
pub(crate) async fn check(docker: &Docker) -> Result<(), Failure> {
    let (version, info) = answered(async { tokio::try_join!(docker.version(), docker.info()) }).await?;
    unfit(&version).or_else(|| gvisor(&info)).or_else(|| without_limits(&info)).map_or(Ok(()), Err)
}

async fn answered<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(Duration::from_secs(10), question).await {
        Ok(answer) => answer.map_err(|error| down(&error)),
        Err(_) => Err(Failure::machine("the Docker engine does not answer within 10 s")
            .hint("look at its log (`journalctl -u docker`) and restart it")),
    }
}

fn down(error: &Error) -> Failure {
    Failure::machine(format_args!("no Docker engine answers: {}", explain(error)))
        .hint("start it (`systemctl start docker`), and see `bottle-runner doctor` for what else is missing")
}

/// Why an engine that answers can't run a bottle. podman's Docker API opens a seccomp profile as a file of its own machine, while
/// every client of Docker sends the profile itself; a guest without its profile is not sealed.
fn unfit(version: &SystemVersion) -> Option<Failure> {
    let mut parts = version.components.iter().flatten();
    let podman = parts.find(|part| part.name.to_lowercase().contains("podman"))?;
    let what =
        format!("the engine is podman {}, whose Docker API takes no seccomp profile with a container", podman.version);
    Some(
        Failure::machine(what)
            .hint("use Docker's engine (DOCKER_HOST says where), or `--backend bubblewrap`, which needs none"),
    )
}

/// Why a bottle can't be in gVisor. The doors' container ends there, and the kernel that the guest sees tells neither of its seccomp
/// filter nor of its rights, so that the seal can't be proved.
fn gvisor(info: &SystemInfo) -> Option<Failure> {
    let name = info.default_runtime.as_deref()?;
    let path =
        info.runtimes.iter().flatten().find(|(of, _)| *of == name).and_then(|(_, runtime)| runtime.path.as_deref());
    let is_runsc = |path: &str| path.rsplit('/').next().is_some_and(|program| program.starts_with("runsc"));
    if !is_runsc(name) && !path.is_some_and(is_runsc) {
        return None;
    }
    let what =
        format!("the engine's default runtime is gVisor ({name}), in which the seal of a bottle can't be proved");
    Some(Failure::machine(what).hint("use an engine whose `default-runtime` is runc, or `--backend bubblewrap`"))
}

/// Why an engine can't hold a bottle to its limits. Without control groups of its own, as rootless Docker on cgroup v1, it starts a
/// container all the same, and leaves the limits of memory and processes out with a warning.
fn without_limits(info: &SystemInfo) -> Option<Failure> {
    let limits = [("processors", info.cpu_cfs_quota), ("memory", info.memory_limit), ("processes", info.pids_limit)];
    let lacking: Vec<&str> = limits.iter().filter(|(_, held)| *held != Some(true)).map(|(of, _)| *of).collect();
    if lacking.is_empty() {
        return None;
    }
    let what = format!("the engine holds no container to limits of {}", lacking.join(", "));
    Some(Failure::machine(what).hint(
        "give it control groups (rootless Docker needs cgroup v2 and systemd, see \
         https://docs.docker.com/engine/security/rootless/tips/#limiting-resources), or use `--backend bubblewrap`",
    ))
}

/// The engine's own words, without the library's around them.
pub(crate) fn explain(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => brief(message),
        Error::JsonDataError { message, .. } => brief(&format!("its answer is not in the known form: {message}")),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            brief(&text)
        }
    }
}

/// The most of an engine's words that a person wants in one message.
const LONGEST: usize = 300;

/// How much of it is the end.
const CAUSE: usize = 120;

/// Words of an engine or of a tool of its, on one line and of a sane length: some answer with a page. What is left out is in the middle,
/// because nested errors end with their cause.
pub(crate) fn brief(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    let start: String = line.chars().take(LONGEST - CAUSE).collect();
    let end: String = line.chars().skip(line.chars().count() - CAUSE).collect();
    format!("{start} … {end}")
}

/// The HTTP status of the engine's answer.
pub(crate) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Ends when a container has; how.
pub(crate) async fn ended(docker: &Docker, container: &str) -> String {
    loop {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        match docker.wait_container(container, Some(options)).next().await {
            Some(Ok(ended)) => return format!("has ended with {}", ended.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => return format!("has ended with {code}"),
            Some(Err(error)) if status(&error) == Some(404) => return "is gone".to_owned(),
            // The library's own limit, or a connection that has been open for long: whether the engine is there is asked anew.
            Some(Err(_)) | None => match docker.ping().await {
                Ok(_) => tokio::time::sleep(WAIT_AGAIN).await,
                Err(error) => return format!("is out of reach: no Docker engine answers: {}", explain(&error)),
            },
        }
    }
}

/// The host's addresses on the engine's networks: every bridge's gateway is the host itself.
pub(crate) async fn gateways(docker: &Docker) -> Result<Vec<IpAddr>, BottleError> {
    let options = ListNetworksOptionsBuilder::default().build();
    let networks = docker
        .list_networks(Some(options))
        .await
        .map_err(|error| BottleError::new("failed to list the engine's networks", explain(&error)))?;
    let mut addresses: Vec<IpAddr> = networks
        .into_iter()
        .filter_map(|network| network.ipam)
        .filter_map(|ipam| ipam.config)
        .flatten()
        .filter_map(|config| match (config.gateway, config.subnet) {
            (Some(gateway), _) if !gateway.is_empty() => gateway.split('/').next()?.parse().ok(),
            // Older engines leave out the default bridge's: it has the subnet's first address.
            (_, Some(subnet)) => match subnet.split('/').next()?.parse().ok()? {
                IpAddr::V4(first) => Some(IpAddr::V4((u32::from(first) + 1).into())),
                IpAddr::V6(first) => Some(IpAddr::V6((u128::from(first) + 1).into())),
            },
            _ => None,
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_is_told_from_docker() {
        // As podman 4.3.1 and Docker 28.2.2 answer /version, but for parts that say nothing here.
        let read = |text: &str| serde_json::from_str::<SystemVersion>(text).expect("a version");
        let podman = read(
            r#"{"Platform":{"Name":"linux/amd64/debian-12"},"Version":"4.3.1","ApiVersion":"1.41","Components":[
            {"Name":"Podman Engine","Version":"4.3.1","Details":{"APIVersion":"4.3.1"}},
            {"Name":"Conmon","Version":"conmon version 2.1.6, commit: unknown","Details":{}}]}"#,
        );
        let failure = unfit(&podman).expect("it can't");
        assert!(failure.what.contains("podman 4.3.1") && failure.what.len() < 120, "{failure}");
        let docker = read(
            r#"{"Version":"28.2.2","ApiVersion":"1.50","Components":[
            {"Name":"Engine","Version":"28.2.2","Details":{"ApiVersion":"1.50"}},{"Name":"containerd","Version":"1.7.24"}]}"#,
        );
        assert!(unfit(&docker).is_none());
    }

    #[test]
    fn gvisor_is_told_by_its_program() {
        // As Docker 20.10 answers /info with it, but for parts that say nothing here.
        for (name, path, is) in [
            ("runsc", "/usr/local/bin/runsc", true),
            ("sandbox", "/usr/bin/runsc-2026", true),
            ("runc", "runc", false),
            ("kata", "/opt/runscape/kata", false),
        ] {
            let answer = format!(
                r#"{{"DefaultRuntime":"{name}","Runtimes":{{"runc":{{"path":"runc"}},"{name}":{{"path":"{path}","runtimeArgs":["--host-uds=all"]}}}}}}"#
            );
            let info: SystemInfo = serde_json::from_str(&answer).expect("an answer");
            assert_eq!(gvisor(&info).is_some(), is, "{answer}");
        }
    }

    #[test]
    fn an_engine_without_a_limit_is_told() {
        // As Docker 28.5.2 answers /info as root, and rootless on cgroup v1, but for parts that say nothing here.
        for (answer, lacks) in [
            (r#"{"MemoryLimit":true,"SwapLimit":true,"CpuCfsQuota":true,"PidsLimit":true,"CgroupVersion":"1"}"#, None),
            (r#"{"MemoryLimit":true,"SwapLimit":false,"CpuCfsQuota":true,"PidsLimit":true,"CgroupVersion":"1"}"#, None),
            (
                r#"{"MemoryLimit":false,"CpuCfsQuota":false,"PidsLimit":false,"CgroupDriver":"none","CgroupVersion":"1"}"#,
                Some("processors, memory, processes"),
            ),
            (r#"{"MemoryLimit":true,"CpuCfsQuota":true,"PidsLimit":false}"#, Some("processes")),
            (r#"{"MemoryLimit":true,"CpuCfsQuota":true}"#, Some("processes")),
            ("{}", Some("processors, memory, processes")),
        ] {
            let info: SystemInfo = serde_json::from_str(answer).expect("an answer");
            let told = without_limits(&info).map(|failure| failure.what);
            assert_eq!(told, lacks.map(|of| format!("the engine holds no container to limits of {of}")), "{answer}");
        }
    }

    #[test]
    fn a_page_of_words_becomes_a_line() {
        let page =
            format!("container create: opening seccomp profile failed:\n open {{{}", "\"names\": 1,\n ".repeat(1000));
        let line = brief(&page);
        assert!(line.starts_with("container create: opening seccomp profile failed: open {\"names\""), "{line}");
        assert!(line.chars().count() <= LONGEST + 3 && !line.contains('\n'), "{line}");
        let nested = brief(&format!("failed to create task: {}: no space left", "failed to do it: ".repeat(100)));
        assert!(nested.starts_with("failed to create task: ") && nested.ends_with(": no space left"), "{nested}");
        assert_eq!(brief("no space left\n"), "no space left");
    }
}
