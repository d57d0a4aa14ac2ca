//! The Docker backend: Compose owns the containers' lifecycle, bollard does everything finer.
//!
//! Map: `engine` (connection, errors), `images` (images and the tools volume), `compose` (up, logs, down), `exec`
//! (commands with separate streams), `leftovers` (what dead runs left). Always: nothing is mounted from the runner's
//! file system and no port is published, because the runner may itself be in a container beside the bottle.

mod compose;
mod engine;
mod exec;
mod images;
mod leftovers;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bottle_plan::plan::BottlePlan;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryStreamExt as _};

pub(crate) use bollard::Docker as Engine;
pub(crate) use engine::connect;
pub(crate) use images::Progress;
pub(crate) use leftovers::{Leftover, find as find_leftovers, remove as remove_leftover};

use super::{Bottle, BottleError, Exec, Room, Running, Tree};
use crate::exit::Failure;
use crate::secrets::Secrets;

/// A bottle of two containers.
pub(crate) struct DockerBottle {
    docker: Docker,
    guest: String,
    bundle: String,
    agent_user: String,
    project: compose::Project,
}

/// Makes sure that the engine answers and the plan's images are there.
pub(crate) async fn prepare(plan: &BottlePlan, progress: &dyn Progress) -> Result<Docker, Failure> {
    let docker = connect().await?;
    images::ensure(&docker, plan, progress).await?;
    Ok(docker)
}

/// Starts the plan's containers; on failure what was started is still there, for [`Bottle::tear_down`] and the logs.
pub(crate) fn bottle(docker: Docker, plan: &BottlePlan, state_dir: &Path) -> DockerBottle {
    DockerBottle {
        docker,
        guest: plan.names.agent.clone(),
        bundle: plan.names.sidecars.clone(),
        agent_user: format!("{}:{}", plan.guest.uid, plan.guest.gid),
        project: compose::Project { name: plan.names.project.clone(), file: compose_file(state_dir) },
    }
}

/// Where the rendered file is.
fn compose_file(state_dir: &Path) -> PathBuf {
    state_dir.join("docker-compose.yml")
}

impl DockerBottle {
    /// `docker compose up`, with the secrets in its environment and nowhere else.
    pub(crate) async fn up(&self, secrets: &Secrets) -> Result<(), Failure> {
        self.project.up(secrets).await
    }

    fn container(&self, room: Room) -> &str {
        match room {
            Room::Guest => &self.guest,
            Room::Bundle => &self.bundle,
        }
    }
}

impl Bottle for DockerBottle {
    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>> {
        exec::start(&self.docker, self.container(exec.room), &self.agent_user, exec).boxed()
    }

    fn copy_in(&self, room: Room, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            let failed = |reason: String| BottleError::new("failed to copy files into the bottle", reason);
            let archive = tree.to_tar().map_err(|error| failed(error.to_string()))?;
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            self.docker
                .upload_to_container(self.container(room), Some(options), bollard::body_full(Bytes::from(archive)))
                .await
                .map_err(|error| failed(engine::explain(&error)))
        }
        .boxed()
    }

    fn copy_out<'a>(&'a self, room: Room, path: &'a str) -> BoxFuture<'a, Result<Option<Tree>, BottleError>> {
        async move {
            let failed =
                |reason: String| BottleError::new(format_args!("failed to copy {path} out of the bottle"), reason);
            let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
            let parts: Result<Vec<Bytes>, _> =
                self.docker.download_from_container(self.container(room), Some(options)).try_collect().await;
            let archive = match parts {
                Ok(parts) => parts.concat(),
                Err(error) if engine::status(&error) == Some(404) => return Ok(None),
                Err(error) => return Err(failed(engine::explain(&error))),
            };
            // Entries are relative to the parent of what was asked for.
            let base = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            Tree::from_tar(&archive, base).map(Some).map_err(|error| failed(error.to_string()))
        }
        .boxed()
    }

    fn signal(&self, signal: &'static str) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            // `-1` is every process this user may signal but init and the sender.
            let exec = Exec::shell(&format!("kill -{signal} -1"));
            let mut running = self.exec(exec).await?;
            while running.output.recv().await.is_some() {}
            Ok(())
        }
        .boxed()
    }

    fn host_addresses(&self) -> BoxFuture<'_, Result<Vec<IpAddr>, BottleError>> {
        engine::gateways(&self.docker).boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>> {
        self.project.logs().boxed()
    }

    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>> {
        self.project.down().boxed()
    }
}
