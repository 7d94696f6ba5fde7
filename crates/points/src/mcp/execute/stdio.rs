//! Upstreams that are child processes: started in a group of their own, with a clean environment, and killed whole.
//!
//! Nothing of a request ever reaches a command line. What the child says on its error output goes to the log,
//! bounded. It must not know MCP. It does not cover sandboxing the child, nor a gateway that is itself killed with
//! SIGKILL: then the child sees its input end, which ends every server that follows the specification.

#[cfg(test)]
mod tests;

use std::process::Stdio as Fd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

use super::ears::Ears;
use super::link::LinkError;
use super::pipe::{Ends, Kill, Pipe};
use crate::mcp::config::{Stdio, UpstreamLimits};
use crate::mcp::guard::{Guard, Launcher};
use crate::mcp::wire::line::LineDecoder;

const STDERR_LINE_BYTES: usize = 8 * 1024;
/// Lines of the child's error output that are logged in one second; more are counted.
const STDERR_LINES_PER_SECOND: u32 = 50;

/// Starts the child and opens its pipes. The guard is asked right before: a program that was exchanged does not run.
pub(crate) fn spawn(
    (config, guard): (&Stdio, &Guard),
    ears: &Ears,
    limits: &UpstreamLimits,
) -> Result<Arc<Pipe>, LinkError> {
    let unreachable = |error: std::io::Error| {
        LinkError::Unreachable(format!("`{}` does not start: {error}", config.command.display()))
    };
    guard.admit().map_err(LinkError::Refused)?;
    let mut command = match &guard.launcher {
        None => Command::new(&config.command),
        Some(Launcher { program, args }) => {
            let mut command = Command::new(program);
            command.args(args).arg(&config.command);
            command
        }
    };
    command.args(&config.args).env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.envs(config.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &config.cwd {
        command.current_dir(cwd);
    }
    command.stdin(Fd::piped()).stdout(Fd::piped()).stderr(Fd::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(unreachable)?;
    let (Some(input), Some(output), Some(errors), Some(id)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take(), child.id())
    else {
        return Err(LinkError::Gone);
    };
    let group = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(LinkError::Gone)?;
    let kill = group_killer(group);
    let ends = Ends { reader: Box::pin(output), writer: Box::pin(input), kill };
    let pipe = Pipe::open(ends, ears, limits.clone());
    tokio::spawn(drain(errors));
    tokio::spawn(reap(child, Arc::clone(&pipe)));
    Ok(pipe)
}

/// Kills the child's whole group. The group's number is not given out again while a member lives; after the last one
/// has been reaped the pipe is closed, and numbers are handed out in a circle, so that a late kill meets nobody.
fn group_killer(group: Pid) -> Kill {
    Arc::new(move || match kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => tracing::error!(%error, "the process group of an upstream could not be killed"),
    })
}

async fn reap(mut child: Child, pipe: Arc<Pipe>) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = pipe.closed().cancelled() => {
            pipe.close();
            child.wait().await
        }
    };
    match status {
        Ok(status) => tracing::info!(%status, "the process of an upstream ended"),
        Err(error) => tracing::error!(%error, "the process of an upstream could not be waited for"),
    }
    pipe.lost();
}

async fn drain(mut errors: ChildStderr) {
    let mut chunk = vec![0; STDERR_LINE_BYTES];
    let mut decoder = LineDecoder::new(STDERR_LINE_BYTES);
    let mut second = tokio::time::Instant::now();
    let mut logged: u32 = 0;
    let mut dropped: u64 = 0;
    while let Ok(count) = errors.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        let lines = decoder.push(chunk.get(..count).unwrap_or_default()).unwrap_or_else(|_| {
            decoder = LineDecoder::new(STDERR_LINE_BYTES);
            dropped = dropped.saturating_add(1);
            Vec::new()
        });
        if second.elapsed() > Duration::from_secs(1) {
            if dropped > 0 {
                tracing::warn!(dropped, "lines of an upstream's error output were dropped");
            }
            (second, logged, dropped) = (tokio::time::Instant::now(), 0, 0);
        }
        for line in lines {
            if logged < STDERR_LINES_PER_SECOND {
                logged = logged.saturating_add(1);
                tracing::info!(target: "upstream", "{}", String::from_utf8_lossy(&line).escape_debug());
            } else {
                dropped = dropped.saturating_add(1);
            }
        }
    }
}
