//! What runs beside the agent: its program, its names, and its link.

use bottle_types::backend::Backend;
use bottle_types::door::DOORS_DIR;

use super::PlanError;
use super::types::{ServicePlan, ServicePort, ServiceSource, TOOLS_DIR};
use crate::manifest::{BottleEntry, Service};
use crate::name::{ServiceName, Slug};

/// Plans a bottle's services.
pub(super) fn services(bottle: &BottleEntry, slug: &Slug, backend: Backend) -> Result<Vec<ServicePlan>, PlanError> {
    bottle.services.iter().map(|(name, service)| service_plan(name, service, slug, backend)).collect()
}

fn service_plan(
    name: &ServiceName,
    service: &Service,
    slug: &Slug,
    backend: Backend,
) -> Result<ServicePlan, PlanError> {
    let ports: Vec<ServicePort> =
        service.ports.iter().map(|port| ServicePort { port: *port, socket: format!("{name}.{port}.sock") }).collect();
    Ok(ServicePlan {
        source: source(name, service, backend)?,
        link: link(&ports, backend),
        wait: wait(&ports, service),
        container: format!("claude-bottle-service-{name}-{slug}"),
        link_container: format!("claude-bottle-service-link-{name}-{slug}"),
        name: name.clone(),
        env: service.env.clone(),
        generated: service.generate.clone(),
        ports,
        health: service.health.clone(),
        time: service.time,
        resources: service.resources.clone(),
    })
}

fn source(name: &ServiceName, service: &Service, backend: Backend) -> Result<ServiceSource, PlanError> {
    let lacks = |key| PlanError::Service { name: name.clone(), backend, key };
    match backend {
        Backend::Docker => {
            let image = service.image.clone().ok_or_else(|| lacks(Some("image")))?;
            Ok(ServiceSource::Image { image, command: service.command.clone(), user: service.user.clone() })
        }
        Backend::Bubblewrap if service.program.is_empty() => Err(lacks(Some("program"))),
        Backend::Bubblewrap => Ok(ServiceSource::Program(service.program.clone())),
        Backend::Smolmachines => Err(lacks(None)),
    }
}

/// On Docker it makes the sockets itself; in a sandbox, which has no such directory, it gets them by number from outside.
fn link(ports: &[ServicePort], backend: Backend) -> Vec<String> {
    let mut link: Vec<String> = [&format!("{TOOLS_DIR}/bin/bottle-link"), "forward"].map(str::to_owned).to_vec();
    match backend {
        Backend::Bubblewrap => link.push("--control".to_owned()),
        Backend::Docker | Backend::Smolmachines => {
            link.extend(["--as-init", "--doors", DOORS_DIR].map(str::to_owned));
            link.extend(
                ports
                    .iter()
                    .flat_map(|ServicePort { port, socket }| ["--serve".to_owned(), format!("{port}={socket}")]),
            );
        }
    }
    link
}

/// Once it has begun to listen, the guest's own link needs a moment, which is no part of the service's time.
const MORE_SECONDS: u64 = 5;

fn wait(ports: &[ServicePort], service: &Service) -> Vec<String> {
    let seconds = (service.time.0 + MORE_SECONDS).to_string();
    let link = format!("{TOOLS_DIR}/bin/bottle-link");
    let mut wait: Vec<String> =
        [&link, "selftest", "--doors-alone", "--doors", DOORS_DIR, "--wait", &seconds].map(str::to_owned).to_vec();
    wait.extend(
        ports.iter().flat_map(|ServicePort { port, socket }| ["--door".to_owned(), format!("{port}={socket}")]),
    );
    wait
}
