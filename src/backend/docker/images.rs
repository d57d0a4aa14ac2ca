//! The images of a plan, and the tools volume that brings Claude and the link into foreign images.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use bottle_plan::plan::{BottlePlan, MadeImage, ServiceSource};
use futures_util::TryStreamExt as _;

use super::engine::{brief, explain, status};
use crate::backend::Progress;
use crate::exit::Failure;
use crate::process::Program;

/// Packages may have to be fetched and built.
const BUILD: Duration = Duration::from_secs(30 * 60);
/// The label that ties a tools volume to the image that filled it.
const TOOLS_LABEL: &str = "io.claude-bottle.tools-from";

/// Makes sure that every image is there, pulling what is not, and that the tools volume is filled.
pub(super) async fn ensure(docker: &Docker, plan: &BottlePlan, progress: &dyn Progress) -> Result<(), Failure> {
    let guest = async {
        let Some(made) = &plan.images.made else { return image(docker, &plan.images.guest, progress).await.map(drop) };
        image(docker, &made.from, progress).await?;
        make(&plan.images.guest, made, progress).await
    };
    let (guest, sidecars) = tokio::join!(guest, image(docker, &plan.images.sidecars, progress));
    guest?;
    sidecars?;
    for service in &plan.services {
        if let ServiceSource::Image { image: name, .. } = &service.source {
            image(docker, name, progress).await?;
        }
    }
    // A service's link is in it.
    let wants_tools = plan.names.tools_volume.is_some() || !plan.services.is_empty();
    let tools = if wants_tools { Some(image(docker, &plan.images.tools, progress).await?) } else { None };
    if let (Some(volume), Some(tools)) = (&plan.names.tools_volume, tools) {
        tools_volume(docker, volume, &plan.images.tools, &tools, progress).await?;
    }
    Ok(())
}

/// The id of an image, pulled if need be.
async fn image(docker: &Docker, name: &str, progress: &dyn Progress) -> Result<String, Failure> {
    match docker.inspect_image(name).await {
        Ok(found) => return Ok(found.id.unwrap_or_default()),
        Err(error) if status(&error) == Some(404) => {}
        Err(error) => {
            return Err(Failure::machine(format_args!("failed to look for the image {name}: {}", explain(&error))));
        }
    }
    progress.say(&format!("pulling {name}"));
    let missing = |error: &Error| {
        let said = explain(error);
        Failure::machine(format_args!("the image {name} is not here and can't be pulled: {said}"))
            .hint(pull_hint(&said))
    };
    let options = CreateImageOptionsBuilder::default().from_image(name).build();
    docker
        .create_image(Some(options), None, None)
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(|error| missing(&error))?;
    let found = docker.inspect_image(name).await.map_err(|error| missing(&error))?;
    Ok(found.id.unwrap_or_default())
}

/// What to do where an image can't be pulled.
fn pull_hint(said: &str) -> &'static str {
    // An engine before 23 takes a layer that is packed with zstd for a tar.
    match said.contains("invalid tar header") {
        true => {
            "its layers are packed with zstd, which Docker unpacks from 23 on: renew the engine, or build the image with `./scripts/images`"
        }
        false => "build it with `./scripts/images`, or name another `image:` in claude-bottle.yml",
    }
}

/// Makes an image of another and a Dockerfile. The engine remembers what it has made: the second time is quick, and a
/// changed image below is noticed.
async fn make(name: &str, made: &MadeImage, progress: &dyn Progress) -> Result<(), Failure> {
    progress.say(&format!("making the image {name}: {} with what was granted", made.from));
    let build = Program::new(["docker", "build", "--tag", name, "-"]).input(made.dockerfile().into_bytes());
    let ended = build.limit(BUILD).run().await.map_err(Failure::machine)?;
    if ended.code == 0 {
        return Ok(());
    }
    // The old builder says on stdout what a command printed, the new one all on stderr.
    let output = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).trim().to_owned();
    let last: Vec<&str> = output.lines().rev().take(8).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(Failure::machine(format_args!("failed to make the image {name}: {}", brief(&last.join("; ")))).hint(
        "the lines that were granted are in images.made of plan.json; without --resume the run goes without them",
    ))
}

/// Makes or renews the volume: the engine copies what the tools image has at the mount point into a new, empty volume.
async fn tools_volume(
    docker: &Docker,
    volume: &str,
    image: &str,
    image_id: &str,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let failed = |error: Error| {
        Failure::machine(format_args!("failed to make the tools volume {volume}: {}", explain(&error)))
            .hint("end the runs that use it (`bottle-runner ps`), then try again")
    };
    match docker.inspect_volume(volume).await {
        Ok(found) if found.labels.get(TOOLS_LABEL).is_some_and(|from| from == image_id) => return Ok(()),
        Ok(_) => docker.remove_volume(volume, None::<RemoveVolumeOptions>).await.map_err(failed)?,
        Err(error) if status(&error) == Some(404) => {}
        Err(error) => return Err(failed(error)),
    }
    progress.say(&format!("filling the tools volume {volume} from {image} (once for each version)"));
    let labels = HashMap::from([(TOOLS_LABEL.to_owned(), image_id.to_owned())]);
    let request =
        VolumeCreateRequest { name: Some(volume.to_owned()), labels: Some(labels), ..VolumeCreateRequest::default() };
    docker.create_volume(request).await.map_err(failed)?;
    let filled = fill(docker, volume, image).await;
    if filled.is_err() {
        // A half-filled volume would look whole to the next run.
        docker.remove_volume(volume, None::<RemoveVolumeOptions>).await.map_err(failed)?;
    }
    filled.map_err(failed)
}

async fn fill(docker: &Docker, volume: &str, image: &str) -> Result<(), Error> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["true".to_owned()]),
        host_config: Some(HostConfig {
            binds: Some(vec![format!("{volume}:{}", bottle_plan::plan::TOOLS_DIR)]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let container = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
    let started = docker.start_container(&container, None::<bollard::query_parameters::StartContainerOptions>).await;
    let remove = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&container, Some(remove)).await?;
    started
}

#[cfg(test)]
mod tests {
    use super::pull_hint;

    #[test]
    fn an_engine_that_is_too_old_for_zstd_is_told() {
        // As 20.10.24 says it.
        let said =
            "failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar header";
        assert!(pull_hint(said).contains("zstd, which Docker unpacks from 23 on"));
        assert!(pull_hint("manifest unknown").contains("name another `image:`"));
    }
}
