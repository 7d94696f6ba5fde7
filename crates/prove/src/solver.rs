//! The solver: one process for one question, framed, within a time and a memory.
//!
//! A solver that is asked twice can answer the first question late, and its answer then stands for the second. So a process
//! gets one script and is ended. The answer counts only between two frames that carry the hash of the script, alone on
//! its line, with nothing after it and a clean end. What is trusted is that the program which is named as the solver means
//! what it says: a program that lies and keeps the frames is believed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver as Symbolic, SolverError};
use countersign_model::Digest;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The most that is read of an answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one question may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time in milliseconds.
    pub time_ms: u64,
    /// Address space of the solver in bytes.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time_ms: 10_000, memory_bytes: 4 * 1024 * 1024 * 1024 }
    }
}

/// There is no solver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no solver was found at {0}; install cvc5 (`apt-get install cvc5`), or name it with `--solver` or COUNTERSIGN_CVC5"
)]
pub struct SolverMissing(pub String);

/// Where the solver is, and what it may take.
#[derive(Clone, Debug)]
pub struct Solver {
    program: PathBuf,
    limits: Limits,
}

impl Solver {
    /// The solver at `named`, else at `COUNTERSIGN_CVC5`, else `cvc5` on `PATH`.
    ///
    /// # Errors
    /// There is none there.
    pub fn find(named: Option<&Path>, limits: Limits) -> Result<Self, SolverMissing> {
        let set = std::env::var_os("COUNTERSIGN_CVC5").filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(program) = named.map(Path::to_owned).or(set) {
            return if program.is_file() {
                Ok(Self { program, limits })
            } else {
                Err(SolverMissing(format!("`{}`", program.display())))
            };
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("cvc5")).find(|program| program.is_file());
        found.map(|program| Self { program, limits }).ok_or_else(|| SolverMissing("`cvc5` on PATH".to_owned()))
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A place for one question.
    pub(crate) const fn ask(&self) -> Asking<'_> {
        Asking { solver: self, script: Vec::new() }
    }
}

/// One question while it is written.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    solver: &'a Solver,
    script: Vec<u8>,
}

impl Symbolic for Asking<'_> {
    fn smtlib_input(&mut self) -> &mut (dyn tokio::io::AsyncWrite + Unpin + Send) {
        &mut self.script
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.script.extend_from_slice(b"(set-option :produce-models true)\n");
        Ok(())
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        Ok(match self.check_sat_with_model().await? {
            DecisionWithModel::Sat { .. } => Decision::Sat,
            DecisionWithModel::Unsat => Decision::Unsat,
            DecisionWithModel::Unknown => Decision::Unknown,
        })
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        let script = std::mem::take(&mut self.script);
        let mut child = self.solver.start()?;
        let limit = Duration::from_millis(self.solver.limits.time_ms);
        let answer = tokio::time::timeout(limit, converse(&mut child, &script)).await;
        // Whatever it still does, it does not matter any more.
        let _ = child.kill().await;
        answer.unwrap_or_else(|_| Err(wrong(&format!("no answer within {} ms", self.solver.limits.time_ms))))
    }
}

fn wrong(what: &str) -> SolverError {
    SolverError::Solver(what.to_owned())
}

impl Solver {
    fn start(&self) -> Result<Child, SolverError> {
        let child = Command::new(&self.program)
            .args(["--lang", "smt"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| wrong(&format!("`{}` cannot be started: {error}", self.program.display())))?;
        // It has been given no work yet. One that has ended already is found out when it is asked.
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let most = Some(self.limits.memory_bytes);
            let _ = prlimit(Some(pid), Resource::As, Rlimit { current: most, maximum: most });
        }
        Ok(child)
    }
}

/// One question, one answer.
async fn converse(child: &mut Child, script: &[u8]) -> Result<DecisionWithModel, SolverError> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(wrong("its streams cannot be had"));
    };
    let mut output = BufReader::new(output).take(ANSWER_BYTES_MAX);
    let tag = Digest::of("countersign question v1", &[script]).hex();
    let (begin, end, last) = (format!("begin {tag}"), format!("end {tag}"), format!("model {tag}"));
    let mut question = script.to_vec();
    question.extend_from_slice(format!("(echo \"{begin}\")\n(check-sat)\n(echo \"{end}\")\n").as_bytes());
    send(&mut input, &question).await?;
    expect(&mut output, &begin).await?;
    let said = line(&mut output).await?;
    expect(&mut output, &end).await?;
    let answer = match said.as_str() {
        "unsat" => DecisionWithModel::Unsat,
        "unknown" => DecisionWithModel::Unknown,
        "sat" => {
            send(&mut input, format!("(get-model)\n(echo \"{last}\")\n").as_bytes()).await?;
            DecisionWithModel::Sat { model: model(&mut output, &last).await? }
        }
        other => return Err(unframed("sat, unsat or unknown", other)),
    };
    send(&mut input, b"(exit)\n").await?;
    drop(input);
    ended(child, &mut output).await?;
    Ok(answer)
}

async fn send(input: &mut ChildStdin, text: &[u8]) -> Result<(), SolverError> {
    let gone = |error: std::io::Error| wrong(&format!("it does not take the question: {error}"));
    input.write_all(text).await.map_err(gone)?;
    input.flush().await.map_err(gone)
}

type Output = tokio::io::Take<BufReader<ChildStdout>>;

async fn line(output: &mut Output) -> Result<String, SolverError> {
    let mut line = Vec::new();
    output.read_until(b'\n', &mut line).await.map_err(|error| wrong(&error.to_string()))?;
    if line.last() != Some(&b'\n') {
        return Err(wrong("it ended, or said too much, before it answered"));
    }
    let text = String::from_utf8(line).map_err(|_| wrong("its answer is no text"))?;
    Ok(text.trim().to_owned())
}

async fn expect(output: &mut Output, frame: &str) -> Result<(), SolverError> {
    let said = line(output).await?;
    // Echoes come back with their quotes.
    if said.trim_matches('"') == frame { Ok(()) } else { Err(unframed("the frame of the question", &said)) }
}

fn unframed(expected: &str, said: &str) -> SolverError {
    let said: String = said.chars().take(120).flat_map(char::escape_default).collect();
    wrong(&format!("expected {expected}, and it said `{said}`"))
}

async fn model(output: &mut Output, last: &str) -> Result<String, SolverError> {
    let mut model = String::new();
    loop {
        let next = line(output).await?;
        if next.trim_matches('"') == last {
            return Ok(model);
        }
        model.push_str(&next);
        model.push('\n');
    }
}

/// Nothing more may come, and it must say that it ended well.
async fn ended(child: &mut Child, output: &mut Output) -> Result<(), SolverError> {
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).await.map_err(|error| wrong(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(wrong("it said more than it was asked"));
    }
    let status = child.wait().await.map_err(|error| wrong(&error.to_string()))?;
    if status.success() { Ok(()) } else { Err(wrong(&format!("it ended badly: {status}"))) }
}
