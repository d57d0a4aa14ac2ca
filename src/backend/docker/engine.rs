//! The connection to the engine, and its errors in words.

use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListNetworksOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt as _;

use crate::backend::BottleError;
use crate::exit::Failure;

/// Between two questions whether a container has ended.
const WAIT_AGAIN: Duration = Duration::from_millis(200);

/// Connects as the docker command would (`DOCKER_HOST`, else the standard socket) and checks that the engine answers.
pub(crate) async fn connect() -> Result<Docker, Failure> {
    let down = |error: &Error| {
        Failure::machine(format_args!("no Docker engine answers: {}", explain(error)))
            .hint("start it (`systemctl start docker`), and see `bottle-runner doctor` for what else is missing")
    };
    let docker = Docker::connect_with_defaults().map_err(|error| down(&error))?;
    match tokio::time::timeout(Duration::from_secs(10), docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(error)) => Err(down(&error)),
        Err(_) => Err(Failure::machine("the Docker engine does not answer within 10 s")
            .hint("look at its log (`journalctl -u docker`) and restart it")),
    }
}

/// The engine's own words, without the library's around them.
pub(crate) fn explain(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
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
            text
        }
    }
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
