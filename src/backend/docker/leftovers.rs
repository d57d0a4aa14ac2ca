//! What runs have left on the engine, found by label.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use bottle_plan::plan::{LABEL_SLUG, LABEL_STATE};
use bottle_scan::known::KnownSecrets;
use bottle_types::record_file::RecordFile;
use futures_util::StreamExt as _;

use super::engine::{explain, status};
use crate::backend::Leftover;
use crate::exit::Failure;

const CONTAINER: &str = "container";
const NETWORK: &str = "network";
const VOLUME: &str = "volume";

/// All runs of which something is on the engine, live ones too.
pub(super) async fn find(docker: &Docker) -> Result<Vec<Leftover>, Failure> {
    let failed = |error: bollard::errors::Error| {
        Failure::machine(format_args!("failed to list what runs have left: {}", explain(&error)))
    };
    let filters = HashMap::from([("label", vec![LABEL_SLUG])]);
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
    for container in containers.map_err(failed)? {
        let Some(leftover) = entry(&mut found, container.labels) else { continue };
        leftover.running |= container.state.is_some_and(|state| state.to_string() == "running");
        let age = Duration::from_secs(u64::try_from(now - container.created.unwrap_or(now)).unwrap_or(0));
        leftover.age = Some(leftover.age.map_or(age, |other| other.min(age)));
        let name = container.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned());
        if let Some(name) = name {
            leftover.add(CONTAINER, "containers", name);
        }
    }
    for network in networks.map_err(failed)? {
        if let Some(leftover) = entry(&mut found, network.labels)
            && let Some(id) = network.id
        {
            leftover.add(NETWORK, "networks", id);
        }
    }
    for volume in volumes.map_err(failed)?.volumes.unwrap_or_default() {
        if let Some(leftover) = entry(&mut found, Some(volume.labels)) {
            leftover.add(VOLUME, "volumes", volume.name);
        }
    }
    Ok(found.into_values().collect())
}

/// The leftover of the run that these labels name.
fn entry(found: &mut BTreeMap<String, Leftover>, labels: Option<HashMap<String, String>>) -> Option<&mut Leftover> {
    let labels = labels?;
    let slug = labels.get(LABEL_SLUG)?;
    let leftover = found.entry(slug.clone()).or_default();
    leftover.slug.clone_from(slug);
    leftover.record = labels.get(LABEL_STATE).map(PathBuf::from);
    Some(leftover)
}

/// Saves the containers' logs to the run record, if that is here without them, and removes everything.
pub(super) async fn remove(docker: &Docker, leftover: &Leftover, mask: &KnownSecrets) -> Result<(), Failure> {
    let failed = |error: bollard::errors::Error| {
        Failure::machine(format_args!("failed to remove what {} has left: {}", leftover.slug, explain(&error)))
    };
    // Gone in the meantime is as good as removed.
    let gone = |result: Result<(), bollard::errors::Error>| match result {
        Err(error) if status(&error) == Some(404) => Ok(()),
        other => other.map_err(failed),
    };
    let lost =
        leftover.record.as_deref().filter(|record| record.is_dir() && !record.join(RecordFile::DoorLog).exists());
    if let Some(record) = lost {
        let mut log = vec![];
        for container in leftover.ids(CONTAINER) {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).build();
            let mut lines = docker.logs(container, Some(options));
            while let Some(Ok(line)) = lines.next().await {
                log.extend_from_slice(format!("{container}  | ").as_bytes());
                log.extend_from_slice(&line.into_bytes());
            }
        }
        std::fs::write(record.join(RecordFile::DoorLog), mask.mask(&log)).map_err(|error| {
            Failure::machine(format_args!("failed to write {}/compose.log: {error}", record.display()))
        })?;
    }
    for container in leftover.ids(CONTAINER) {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match docker.remove_container(container, Some(options)).await {
            // Another run is at it just now.
            Err(error) if status(&error) == Some(409) && is_gone_soon(docker, container).await => {}
            other => gone(other)?,
        }
    }
    for network in leftover.ids(NETWORK) {
        gone(docker.remove_network(network).await)?;
    }
    for volume in leftover.ids(VOLUME) {
        gone(docker.remove_volume(volume, None::<RemoveVolumeOptions>).await)?;
    }
    Ok(())
}

/// True if somebody else's removal of a container comes to its end.
async fn is_gone_soon(docker: &Docker, container: &str) -> bool {
    for _ in 0..100 {
        let inspected = docker.inspect_container(container, None::<InspectContainerOptions>).await;
        if inspected.is_err_and(|error| status(&error) == Some(404)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
