//! Commands in a container, with separate streams and the exit code.

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};

use super::engine::explain;
use crate::backend::{BottleError, Exec, ExecUser, OutputChunk, Running, Side};

/// Starts a command and a task that relays its output.
pub(super) async fn start(
    docker: &Docker,
    container: &str,
    agent_user: &str,
    exec: Exec,
) -> Result<Running, BottleError> {
    let command = exec.argv.first().cloned().unwrap_or_default();
    let failed = |error: bollard::errors::Error| {
        BottleError::new(format_args!("failed to run `{command}` in the bottle"), explain(&error))
    };
    let id = docker.create_exec(container, options(&exec, agent_user)).await.map_err(failed)?.id;
    let started = docker
        .start_exec(&id, Some(StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() }));
    let StartExecResults::Attached { output: mut stream, mut input } = started.await.map_err(failed)? else {
        return Err(BottleError::new(
            format_args!("failed to run `{command}` in the bottle"),
            "the engine did not attach",
        ));
    };
    let (sender, output) = mpsc::channel(64);
    let (code_sender, code) = oneshot::channel();
    let docker = docker.clone();
    let stdin = exec.stdin;
    tokio::spawn(async move {
        let feed = async move {
            if let Some(bytes) = stdin {
                // A command that does not read to the end has ended; its exit code says how.
                let _ = input.write_all(&bytes).await;
                let _ = input.shutdown().await;
            }
            input
        };
        let relay = async {
            while let Some(piece) = stream.next().await {
                let output = match piece {
                    Ok(LogOutput::StdErr { message }) => OutputChunk::Stderr(message),
                    Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => OutputChunk::Stdout(message),
                    Ok(LogOutput::StdIn { .. }) => continue,
                    Err(error) => return Err(BottleError::new("lost the command's output", explain(&error))),
                };
                if sender.send(output).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let (_input, relayed) = tokio::join!(feed, relay);
        drop(sender);
        let result = match relayed {
            Err(error) => Err(error),
            Ok(()) => exit_code(&docker, &id).await,
        };
        let _ = code_sender.send(result);
    });
    Ok(Running { output, code })
}

/// The command as the engine takes it, by the user that it is for.
fn options(exec: &Exec, agent_user: &str) -> CreateExecOptions<String> {
    let user = match (exec.side, exec.user) {
        (Side::Guest, ExecUser::Agent) => Some(agent_user.to_owned()),
        (Side::Guest, ExecUser::Root) => Some("0:0".to_owned()),
        (Side::Bundle | Side::Service(_), _) => None,
    };
    CreateExecOptions {
        attach_stdin: Some(exec.stdin.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(exec.argv.clone()),
        user,
        working_dir: exec.cwd.clone(),
        ..CreateExecOptions::default()
    }
}

/// The exit code; the engine may take a moment after the streams have ended.
async fn exit_code(docker: &Docker, id: &str) -> Result<i64, BottleError> {
    for _ in 0..200 {
        let state = docker
            .inspect_exec(id)
            .await
            .map_err(|error| BottleError::new("failed to learn the exit code", explain(&error)))?;
        if state.running != Some(true)
            && let Some(code) = state.exit_code
        {
            return Ok(code);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Err(BottleError::new("failed to learn the exit code", "the engine says that the command still runs"))
}
