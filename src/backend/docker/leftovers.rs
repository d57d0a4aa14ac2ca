//! What runs have left on the engine, found by label.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use futures_util::StreamExt as _;

use super::engine::{explain, status};
use crate::exit::Failure;
use bottle_policy::known::KnownSecrets;

/// The label on everything of a run; its value is the slug.
const SLUG_LABEL: &str = "io.claude-bottle.slug";

/// Everything of one run that is on the engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftover {
    pub(crate) slug: String,
    pub(crate) containers: Vec<String>,
    pub(crate) networks: Vec<String>,
    pub(crate) volumes: Vec<String>,
    /// Whether any container runs.
    pub(crate) running: bool,
    /// Since the oldest container was made.
    pub(crate) age_hours: i64,
}

impl Leftover {
    /// What there is, counted.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} containers, {} networks, {} volumes",
            self.containers.len(),
            self.networks.len(),
            self.volumes.len()
        )
    }
}

/// All runs of which something is on the engine, live ones too.
pub(crate) async fn find(docker: &Docker) -> Result<Vec<Leftover>, Failure> {
    let failed = |error: bollard::errors::Error| {
        Failure::machine(format_args!("failed to list what runs have left: {}", explain(&error)))
    };
    let filters = HashMap::from([("label", vec![SLUG_LABEL])]);
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let networks = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let (containers, networks, volumes) = tokio::join!(
        docker.list_containers(Some(containers)),
        docker.list_networks(Some(networks)),
        docker.list_volumes(Some(volumes)),
    );
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut found: BTreeMap<String, Leftover> = BTreeMap::new();
    let of = |labels: Option<HashMap<String, String>>| {
        let slug = labels?.get(SLUG_LABEL)?.clone();
        Some(slug)
    };
    for container in containers.map_err(failed)? {
        let Some(slug) = of(container.labels) else { continue };
        let entry = found.entry(slug).or_default();
        entry.running |= container.state.is_some_and(|state| state.to_string() == "running");
        entry.age_hours = entry.age_hours.max((now - container.created.unwrap_or(now)) / 3600);
        entry
            .containers
            .extend(container.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned()));
    }
    for network in networks.map_err(failed)? {
        let Some(slug) = of(network.labels) else { continue };
        found.entry(slug).or_default().networks.extend(network.id);
    }
    for volume in volumes.map_err(failed)?.volumes.unwrap_or_default() {
        let Some(slug) = of(Some(volume.labels)) else { continue };
        found.entry(slug).or_default().volumes.push(volume.name);
    }
    Ok(found.into_iter().map(|(slug, leftover)| Leftover { slug, ..leftover }).collect())
}

/// Saves the containers' logs to the run record, if that is still there without them, and removes everything.
pub(crate) async fn remove(
    docker: &Docker,
    leftover: &Leftover,
    record: &Path,
    mask: &KnownSecrets,
) -> Result<(), Failure> {
    let failed = |error: bollard::errors::Error| {
        Failure::machine(format_args!("failed to remove what {} has left: {}", leftover.slug, explain(&error)))
    };
    // Gone in the meantime is as good as removed.
    let gone = |result: Result<(), bollard::errors::Error>| match result {
        Err(error) if status(&error) == Some(404) => Ok(()),
        other => other.map_err(failed),
    };
    if record.is_dir() && !record.join("compose.log").exists() {
        let mut log = vec![];
        for container in &leftover.containers {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).build();
            let mut lines = docker.logs(container, Some(options));
            while let Some(Ok(line)) = lines.next().await {
                log.extend_from_slice(format!("{container}  | ").as_bytes());
                log.extend_from_slice(&line.into_bytes());
            }
        }
        std::fs::write(record.join("compose.log"), mask.mask(&log)).map_err(|error| {
            Failure::machine(format_args!("failed to write {}/compose.log: {error}", record.display()))
        })?;
    }
    for container in &leftover.containers {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        gone(docker.remove_container(container, Some(options)).await)?;
    }
    for network in &leftover.networks {
        gone(docker.remove_network(network).await)?;
    }
    for volume in &leftover.volumes {
        gone(docker.remove_volume(volume, None::<RemoveVolumeOptions>).await)?;
    }
    Ok(())
}
