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
use std::path::Path;

use bollard::Docker as Engine;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, LogsOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bottle_plan::plan::{AGENT_IMAGE, BottlePlan, SIDECARS_IMAGE, ServicePlan};
use bottle_scan::known::KnownSecrets;
use bottle_types::record_file::RecordFile;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::{
    BackendDriver, Bottle, BottleError, Exec, Leftover, Progress, Running, Side, Survey, Tree, any, last_lines,
};
use crate::exit::Failure;
use crate::process::Program;
use crate::secrets::Secrets;

/// An engine that answers.
pub(super) struct Docker(Engine);

impl Docker {
    pub(super) async fn connect() -> Result<Self, Failure> {
        engine::connect().await.map(Self)
    }

    /// Checks that the engine can run a bottle.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        engine::check(&self.0).await
    }
}

impl BackendDriver for Docker {
    fn prepare<'a>(&'a self, plan: &'a BottlePlan, progress: &'a dyn Progress) -> BoxFuture<'a, Result<(), Failure>> {
        async {
            self.check().await?;
            images::ensure(&self.0, plan, progress).await
        }
        .boxed()
    }

    fn bottle(&self, plan: &BottlePlan, record: &Path) -> Box<dyn Bottle> {
        Box::new(DockerBottle {
            docker: self.0.clone(),
            guest: plan.names.agent.clone(),
            bundle: plan.names.sidecars.clone(),
            agent_user: format!("{}:{}", plan.guest.uid, plan.guest.gid),
            services: plan.services.iter().map(Service::of).collect(),
            generated: plan.services.iter().flat_map(|service| service.generated.values().cloned()).collect(),
            project: compose::Project { name: plan.names.project.clone(), file: record.join(RecordFile::Compose) },
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Failure>> {
        leftovers::find(&self.0).boxed()
    }

    fn remove<'a>(&'a self, leftover: &'a Leftover, mask: &'a KnownSecrets) -> BoxFuture<'a, Result<(), Failure>> {
        leftovers::remove(&self.0, leftover, mask).boxed()
    }
}

/// The Compose file, which the backend starts and a person can read and drive.
pub(super) fn record_files(plan: &BottlePlan) -> Vec<(RecordFile, String)> {
    vec![(RecordFile::Compose, bottle_plan::render::compose(plan))]
}

/// The engine, our images and Compose.
pub(super) async fn survey() -> Survey {
    let mut survey = Survey::default();
    let engine = async {
        let engine = engine::connect().await?;
        engine::check(&engine).await.map(|()| engine)
    };
    match engine.await {
        Ok(engine) => {
            let version = engine.version().await.ok().and_then(|version| version.version).unwrap_or_default();
            survey.there(format!("docker engine {version}"));
            for image in [AGENT_IMAGE, SIDECARS_IMAGE] {
                match engine.inspect_image(image).await {
                    Ok(_) => survey.there(format!("image {image}")),
                    Err(_) => {
                        survey.missing(format!("image {image}: pulled at the first run, or built by ./scripts/images"))
                    }
                }
            }
        }
        Err(failure) => {
            survey.missing(format!("docker engine: {failure}; install docker.io (or docker-ce) and start it"));
        }
    }
    match Program::new(["docker", "compose", "version", "--short"]).run().await {
        Ok(ended) if ended.code == 0 => {
            survey.there(format!("docker compose {}", String::from_utf8_lossy(&ended.stdout).trim()));
        }
        Ok(ended) => survey.missing(format!(
            "docker compose v2: {}; install docker-compose-v2 (or docker-compose-plugin)",
            engine::brief(&ended.complaint())
        )),
        Err(error) => {
            survey.missing(format!("docker compose v2: {error}; install the docker command with Compose v2"));
        }
    }
    survey
}

/// A service's containers.
struct Service {
    name: String,
    container: String,
    link: String,
}

impl Service {
    fn of(plan: &ServicePlan) -> Self {
        Self { name: plan.name.to_string(), container: plan.container.clone(), link: plan.link_container.clone() }
    }
}

/// A bottle of two containers, and two for each service.
struct DockerBottle {
    docker: Engine,
    guest: String,
    bundle: String,
    services: Vec<Service>,
    /// The agent's variables with passwords that are made for the run.
    generated: Vec<String>,
    agent_user: String,
    project: compose::Project,
}

impl DockerBottle {
    fn container(&self, side: Side) -> &str {
        match side {
            Side::Guest => &self.guest,
            Side::Bundle => &self.bundle,
            // One that is not there is nowhere in the engine.
            Side::Service(index) => self.services.get(index).map_or("", |service| &service.container),
        }
    }

    /// Ends when a service or its link has; which, how, and what it said last.
    async fn service_ended(&self, index: usize, service: &Service) -> String {
        let name = &service.name;
        tokio::select! {
            how = engine::ended(&self.docker, &service.container) => match self.last_words(index).await {
                words if words.is_empty() => format!("the service `{name}` {how}"),
                words => format!("the service `{name}` {how}: {words}"),
            },
            how = engine::ended(&self.docker, &service.link) => format!("the link of the service `{name}` {how}"),
        }
    }
}

/// Lines of a log that are asked for: some may be empty.
const LAST_PIECES: &str = "20";

impl Bottle for DockerBottle {
    /// `docker compose up`, with the secrets in its environment and nowhere else.
    fn up<'a>(&'a self, secrets: &'a Secrets) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async { self.project.up(secrets, &self.generated).await.map(|()| vec![]) }.boxed()
    }

    fn died(&self) -> BoxFuture<'_, String> {
        async {
            tokio::select! {
                biased;
                how = engine::ended(&self.docker, &self.bundle) => format!("the doors' container {how}"),
                how = engine::ended(&self.docker, &self.guest) => format!("the guest's container {how}"),
                how = any(self.services.iter().enumerate().map(|(index, one)| self.service_ended(index, one))) => how,
            }
        }
        .boxed()
    }

    fn last_words(&self, service: usize) -> BoxFuture<'_, String> {
        async move {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LAST_PIECES).build();
            let pieces: Vec<_> =
                self.docker.logs(self.container(Side::Service(service)), Some(options)).collect().await;
            let printed: Vec<Bytes> =
                pieces.into_iter().filter_map(Result::ok).map(|piece| piece.into_bytes()).collect();
            last_lines(&printed.concat())
        }
        .boxed()
    }

    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>> {
        exec::start(&self.docker, self.container(exec.side), &self.agent_user, exec).boxed()
    }

    fn copy_in(&self, side: Side, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            let failed = |reason: String| BottleError::new("failed to copy files into the bottle", reason);
            let archive = tree.to_tar().map_err(|error| failed(error.to_string()))?;
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            self.docker
                .upload_to_container(self.container(side), Some(options), bollard::body_full(Bytes::from(archive)))
                .await
                .map_err(|error| failed(engine::explain(&error)))
        }
        .boxed()
    }

    fn copy_out<'a>(&'a self, side: Side, path: &'a str) -> BoxFuture<'a, Result<Option<Tree>, BottleError>> {
        async move {
            let failed =
                |reason: String| BottleError::new(format_args!("failed to copy {path} out of the bottle"), reason);
            let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
            let parts: Result<Vec<Bytes>, _> =
                self.docker.download_from_container(self.container(side), Some(options)).try_collect().await;
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

    /// The digest of the image that the guest was made of.
    fn system_id(&self) -> BoxFuture<'_, Result<String, BottleError>> {
        async {
            let doing = "failed to learn the guest's image";
            let found = self.docker.inspect_container(&self.guest, None).await;
            let found = found.map_err(|error| BottleError::new(doing, engine::explain(&error)))?;
            found.image.ok_or_else(|| BottleError::new(doing, "the engine does not say"))
        }
        .boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>> {
        self.project.logs().boxed()
    }

    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>> {
        self.project.down().boxed()
    }
}
