//! Running other programs: plainly, captured, or echoed while being read.
//!
//! It knows nothing of what the programs do. It does not cover time limits: the test runner has its own.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// Lines of a log that are shown.
const END_LINES: usize = 40;

/// Cargo, started in `root`, without the variables that describe the package `xtask` itself: they would otherwise
/// reach the build scripts of others and make them run again.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    for (name, _) in std::env::vars_os() {
        if describes_this_package(&name) {
            command.env_remove(&name);
        }
    }
    command
}

fn describes_this_package(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Runs to the end, output passed on.
///
/// # Errors
/// When the program cannot be started or ends with anything but 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and returns standard output.
///
/// # Errors
/// As [`run`]; the text carries what the program wrote to standard error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` ended with {}: {}", output.status, complaint.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote bytes that are not UTF-8"))
}

/// True when the program starts and ends with 0; what it writes is thrown away.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs to the end, echoes every line as it comes, and returns success and all that was written, both streams together.
///
/// # Errors
/// When the program cannot be started or its output cannot be read.
pub(crate) fn echo(command: &mut Command) -> Result<(bool, String)> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = thread::spawn(move || copy_lines(err, std::io::stderr()));
    let mut text = copy_lines(out, std::io::stdout())?;
    match reader.join() {
        Ok(more) => text.push_str(&more?),
        Err(_) => bail!("the reader of `{shown}` stopped early"),
    }
    Ok((child.wait()?.success(), text))
}

/// Runs to the end, whatever that is, with both streams in the file `log`.
///
/// # Errors
/// When the program cannot be started or the file cannot be written.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let shown = show(command);
    let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    command.status().with_context(|| format!("cannot start `{shown}`"))?;
    Ok(())
}

/// Shows the last lines of a log on standard error.
pub(crate) fn show_end(log: &Path) -> Result<()> {
    let text = std::fs::read(log).with_context(|| format!("cannot read `{}`", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("the end of `{}`:", log.display());
    for line in lines.iter().skip(lines.len().saturating_sub(END_LINES)) {
        eprintln!("  {line}");
    }
    Ok(())
}

fn copy_lines(from: Option<impl Read>, mut to: impl Write) -> Result<String> {
    let mut all = String::new();
    let Some(from) = from else { return Ok(all) };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        all.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    to.flush()?;
    Ok(all)
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
