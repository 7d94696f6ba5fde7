//! A terminal of its own for a program that asks a human.
//!
//! The program leads a session whose controlling terminal is a new pseudo-terminal; its standard output and error are
//! pipes, so that what it says to a terminal and what it prints can be told apart. Needs `setsid` of util-linux.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::Ran;

const PATIENCE: Duration = Duration::from_secs(90);

/// Runs `program` at a terminal; whenever the terminal shows the next prompt, its answer is typed.
pub(crate) fn run(program: &Path, args: &[&str], answers: &[(&str, &str)]) -> Ran {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name: CString = ptsname(&master, Vec::new()).unwrap();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap())
        .open(std::ffi::OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program).args(args);
    let child = command.stdin(slave).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The slave's last descriptor here went with the command's.
    drop(command);
    let screen = converse(File::from(master), answers);
    let ended = child.wait_with_output().unwrap();
    Ran::new(ended, screen)
}

/// Types the answers and returns all that the terminal showed, once the program has let go of it.
fn converse(master: File, answers: &[(&str, &str)]) -> String {
    let mut keyboard = master.try_clone().unwrap();
    let mut display = master;
    let (show, shown) = channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        // The end of a terminal is an error (EIO).
        while let Ok(count @ 1..) = display.read(&mut chunk) {
            if show.send(chunk[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut screen = String::new();
    let mut seen = 0;
    let mut left = answers.iter();
    let mut next = left.next();
    loop {
        match shown.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => screen.push_str(&String::from_utf8_lossy(&chunk)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the terminal went quiet; it shows: {screen}"),
        }
        while let Some((prompt, answer)) = next
            && let Some(at) = screen[seen..].find(prompt)
        {
            seen += at + prompt.len();
            // The prompt comes before the echo is off; who types at once would be shown.
            super::until("the terminal stops showing what is typed", &mut || {
                !tcgetattr(&keyboard).unwrap().local_modes.contains(LocalModes::ECHO)
            });
            writeln!(keyboard, "{answer}").unwrap();
            next = left.next();
        }
    }
    screen
}
