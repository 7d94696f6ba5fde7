//! A real PostgreSQL for one test: a cluster in a temporary folder that ends with its handle.
//!
//! It listens on a Unix socket in that folder and nowhere else. PostgreSQL refuses to run as root, so where the test does,
//! the cluster runs as the user that Debian's package makes. Not covered: anything that needs the cluster to outlive a crash.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Debian keeps each major in a folder of its own, outside of `PATH`.
const MAJORS: &str = "/usr/lib/postgresql";
const USER: &str = "postgres";
const CREW: &str = "
    CREATE TABLE crew (id serial PRIMARY KEY, name text, pay numeric(20, 2), since timestamptz, notes jsonb);
    INSERT INTO crew (name, pay, since, notes) VALUES
        ('Ada', 0.10, '1843-09-01 12:00:00+00', '{\"a\": [1e2, null]}'),
        (E'quote \" backslash \\\\ \\u2028 é', 9007199254740993.00, NULL, NULL) ";

/// A running cluster.
pub(crate) struct Cluster {
    child: Child,
    folder: TempDir,
    /// Where clients find the database.
    pub(crate) url: String,
}

impl Cluster {
    /// Makes it, starts it, and fills one table.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        if geteuid().is_root() {
            done(Command::new("chown").arg(format!("{USER}:{USER}")).arg(&place));
        }
        let data = folder.path().join("data");
        let mut initdb = as_user("initdb");
        done(
            initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username", USER]).arg(&data),
        );
        let mut server = as_user("postgres");
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=UTC"]);
        server.args(["-c", &format!("unix_socket_directories={place}")]);
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let url = format!("postgresql://{USER}@localhost/{USER}?host={place}");
        let cluster = Self { child, folder, url };
        super::support::until("PostgreSQL answers", &mut || cluster.run("SELECT 1"));
        assert!(cluster.run(CREW), "the table is made");
        cluster
    }

    fn run(&self, sql: &str) -> bool {
        let mut psql = Command::new(program("psql"));
        psql.arg("--host").arg(self.folder.path()).args([
            "--username",
            USER,
            "--no-psqlrc",
            "--quiet",
            "--command",
            sql,
        ]);
        let ended = psql.env("PGOPTIONS", "").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.unwrap().success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // At once, and its own children with it (`pg_ctl stop -m immediate`).
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// A program of PostgreSQL, run by somebody who is not root.
fn as_user(name: &str) -> Command {
    let program = program(name);
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

/// The newest major's, else the one on `PATH`.
fn program(name: &str) -> PathBuf {
    let majors = std::fs::read_dir(MAJORS).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = majors
        .filter_map(|major| Some((major.file_name().to_str()?.parse().ok()?, major.path().join("bin").join(name))))
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    found.pop().map_or_else(|| Path::new(name).to_owned(), |(_, path)| path)
}

fn done(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
}
