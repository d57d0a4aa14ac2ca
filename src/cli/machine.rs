//! `bottle-runner doctor`: what this machine can do, backend by backend.

use super::{Context, print};
use crate::backend::docker;
use crate::exit::{Code, Failure};
use crate::process::Program;

pub(super) async fn doctor(context: &Context) -> Result<Code, Failure> {
    let mut text = String::new();
    let mut usable = true;
    let mut line = |good: bool, what: String| {
        usable &= good;
        text.push_str(&format!("{} {what}\n", if good { "ok     " } else { "missing" }));
    };
    match docker::connect().await {
        Ok(engine) => {
            let version = engine.version().await.ok().and_then(|version| version.version).unwrap_or_default();
            line(true, format!("docker engine {version}"));
            for image in [bottle_plan::plan::AGENT_IMAGE, bottle_plan::plan::SIDECARS_IMAGE] {
                match engine.inspect_image(image).await {
                    Ok(_) => line(true, format!("image {image}")),
                    Err(_) => {
                        line(false, format!("image {image}: pulled at the first run, or built by ./scripts/images"))
                    }
                }
            }
        }
        Err(failure) => line(false, format!("docker engine: {failure}; install docker.io (or docker-ce) and start it")),
    }
    match Program::new(["docker", "compose", "version", "--short"]).run().await {
        Ok(ended) if ended.code == 0 => {
            line(true, format!("docker compose {}", String::from_utf8_lossy(&ended.stdout).trim()))
        }
        Ok(ended) => line(
            false,
            format!("docker compose v2: {}; install docker-compose-v2 (or docker-compose-plugin)", ended.complaint()),
        ),
        Err(error) => line(false, format!("docker compose v2: {error}; install the docker command with Compose v2")),
    }
    match Program::new(["git", "--version"]).run().await {
        Ok(ended) if ended.code == 0 => line(true, String::from_utf8_lossy(&ended.stdout).trim().to_owned()),
        _ => line(false, "git: install git".to_owned()),
    }
    if let Some(root) = context.environment.state_root() {
        line(true, format!("run records go to {}", root.display()));
    }
    text.push_str("\nsmolmachines and bubblewrap are not in this version.\n");
    print(&text)?;
    Ok(if usable { Code::Done } else { Code::Machine })
}
