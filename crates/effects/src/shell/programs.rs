//! The programs of one simple command, looking through programs that start another one.
//!
//! A wrapper is looked through only where every option before the inner command is known; an unknown one is opaque. It
//! must not know how words were spelled.

use std::collections::BTreeSet;

use countersign_model::facts::NAME_BYTES_MAX;

use super::words::Word;
use crate::sql::Opaque;

/// Folders whose programs count by their base names. A program elsewhere could have any name.
const FOLDERS: [&str; 6] = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/"];

/// Words that are no programs: they steer a shell, or change what later words mean.
const STEERING: &[&str] = &[
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "for",
    "foreach",
    "while",
    "until",
    "do",
    "done",
    "case",
    "esac",
    "in",
    "end",
    "function",
    "select",
    "repeat",
    "begin",
    "and",
    "or",
    "not",
    "time",
    "coproc",
    "[[",
    "]]",
    ".",
    "source",
    "eval",
    "exec",
    "command",
    "builtin",
    "alias",
    "unalias",
    "bind",
    "compgen",
    "complete",
    "compopt",
    "declare",
    "typeset",
    "local",
    "readonly",
    "export",
    "enable",
    "hash",
    "fc",
    "jobs",
    "let",
    "mapfile",
    "readarray",
    "read",
    "getopts",
    "return",
    "set",
    "unset",
    "shopt",
    "shift",
    "trap",
    "autoload",
    "emulate",
    "noglob",
    "nocorrect",
    "zmodload",
];

/// Programs that run another one, or a text, in ways that are not looked through.
const RUNNERS: &[&str] = &[
    "aa-exec",
    "ash",
    "at",
    "bash",
    "batch",
    "busybox",
    "bwrap",
    "capsh",
    "cgexec",
    "choom",
    "chpst",
    "chroot",
    "chrt",
    "cpulimit",
    "crontab",
    "csh",
    "dash",
    "dbus-run-session",
    "dumb-init",
    "eatmydata",
    "entr",
    "expect",
    "fakeroot",
    "firejail",
    "fish",
    "flock",
    "gdb",
    "gosu",
    "ionice",
    "ip",
    "ksh",
    "linux32",
    "linux64",
    "ltrace",
    "mksh",
    "nsenter",
    "numactl",
    "parallel",
    "perf",
    "pkexec",
    "prlimit",
    "proot",
    "proxychains",
    "proxychains4",
    "rbash",
    "rlwrap",
    "rsh",
    "run-parts",
    "runcon",
    "runuser",
    "screen",
    "script",
    "setarch",
    "setpriv",
    "sg",
    "sh",
    "ssh",
    "sshpass",
    "start-stop-daemon",
    "strace",
    "su",
    "su-exec",
    "systemd-run",
    "taskset",
    "tcsh",
    "tini",
    "tmux",
    "toybox",
    "unbuffer",
    "unshare",
    "valgrind",
    "watch",
    "xvfb-run",
    "yash",
    "zsh",
];

/// Built-ins that write a variable, or look into one by a text that a shell evaluates, under these options.
const WRITING: &[(&str, &[&str])] = &[("printf", &["-v"]), ("test", &["-v", "-R"]), ("wait", &["-p"])];

/// A program that starts the command behind its options.
struct Wrapper {
    name: &'static str,
    /// Options without a value.
    flags: &'static [&'static str],
    /// Options whose value is the next word.
    valued: &'static [&'static str],
    /// Words of its own before the command.
    operands: usize,
    /// Whether it does something of its own where no command follows.
    alone: bool,
}

const WRAPPERS: [Wrapper; 9] = [
    Wrapper { name: "sudo", flags: &["-n", "-S", "-k", "-H"], valued: &["-u", "-g"], operands: 0, alone: false },
    Wrapper { name: "doas", flags: &["-n"], valued: &["-u"], operands: 0, alone: false },
    Wrapper { name: "env", flags: &["-i"], valued: &[], operands: 0, alone: true },
    Wrapper {
        name: "timeout",
        flags: &["--foreground", "--preserve-status", "-v", "-p", "-f"],
        valued: &["-k", "-s"],
        operands: 1,
        alone: false,
    },
    Wrapper { name: "nice", flags: &[], valued: &["-n"], operands: 0, alone: true },
    Wrapper { name: "nohup", flags: &[], valued: &[], operands: 0, alone: false },
    Wrapper { name: "setsid", flags: &["-w", "-f", "-c"], valued: &[], operands: 0, alone: false },
    Wrapper { name: "stdbuf", flags: &[], valued: &["-i", "-o", "-e"], operands: 0, alone: false },
    Wrapper {
        name: "xargs",
        flags: &["-0", "-r", "-t", "-x"],
        valued: &["-n", "-P", "-L", "-I", "-d", "-s"],
        operands: 0,
        alone: true,
    },
];

/// Adds the programs of one command to `all`.
pub(super) fn of(command: &[Word], all: &mut BTreeSet<String>) -> Result<(), Opaque> {
    let mut rest = command;
    // `xargs` adds words from its input behind the last one.
    let mut is_open = false;
    // Each turn takes at least one word.
    while let Some((first, others)) = rest.split_first() {
        let name = program(first, others)?;
        if is_open && name.eq_ignore_ascii_case("find") {
            return Err(starts_others(name));
        }
        all.insert(name.to_owned());
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) else {
            return Ok(());
        };
        rest = inner(wrapper, others)?;
        is_open |= name == "xargs";
        if rest.is_empty() && (!wrapper.alone || (is_open && name != "xargs")) {
            return Err(Opaque::naming("no command behind", name));
        }
    }
    Ok(())
}

/// The base name of what a command starts.
fn program<'a>(word: &'a Word, others: &[Word]) -> Result<&'a str, Opaque> {
    let text = word.text.as_str();
    if word.expands {
        return Err(Opaque::because("a program whose name a shell would expand"));
    }
    if text.contains('=') {
        return Err(Opaque::because("an assignment before a program"));
    }
    let name = FOLDERS.iter().find_map(|folder| text.strip_prefix(folder)).unwrap_or(text);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        && !name.starts_with('-');
    if !is_name || name == ".." {
        return Err(Opaque::because("a program outside of the system's folders, or with no plain name"));
    }
    // Where names of files have no case, `SH` is `sh`.
    let lower = name.to_ascii_lowercase();
    let known = lower.as_str();
    if STEERING.contains(&known) {
        return Err(Opaque::naming("shell text with the control word", name));
    }
    let has = |found: &dyn Fn(&Word) -> bool| others.iter().any(found);
    let writes = |(builtin, options): &(&str, &[&str])| {
        known == *builtin && has(&|word| word.expands || options.iter().any(|option| word.text.starts_with(option)))
    };
    let finds = ["-exec", "-ok"];
    let is_find = known == "find" && has(&|word| word.expands || finds.iter().any(|find| word.text.starts_with(find)));
    let is_odd_wrapper = known != name && WRAPPERS.iter().any(|wrapper| wrapper.name == known);
    if RUNNERS.contains(&known) || is_odd_wrapper || is_find || WRITING.iter().any(writes) {
        return Err(starts_others(name));
    }
    Ok(name)
}

fn starts_others(name: &str) -> Opaque {
    Opaque::naming("a program that starts others in ways that are not understood:", name)
}

/// The command behind a wrapper's options.
fn inner<'a>(wrapper: &Wrapper, words: &'a [Word]) -> Result<&'a [Word], Opaque> {
    let mut rest = words;
    let mut operands = wrapper.operands;
    while let Some((word, others)) = rest.split_first() {
        let text = word.text.as_str();
        // What a shell expands could become several words, or none.
        let is_marker = text == "-I" && others.first().is_none_or(|value| value.text != "{}");
        if word.expands || is_marker {
            return Err(Opaque::naming("options that are not known, of", wrapper.name));
        }
        if text == "--" {
            return others.get(operands..).ok_or_else(|| Opaque::naming("no command behind", wrapper.name));
        }
        if wrapper.valued.contains(&text) {
            // The value may be anything but absent.
            rest = others
                .get(1..)
                .filter(|_| others.first().is_some_and(|value| !value.expands))
                .ok_or_else(|| Opaque::naming("an option without its value, of", wrapper.name))?;
        } else if wrapper.flags.contains(&text) || is_joined(wrapper, text) {
            rest = others;
        } else if text.starts_with('-') || text.is_empty() {
            return Err(Opaque::naming("options that are not known, of", wrapper.name));
        } else if operands > 0 {
            operands = operands.saturating_sub(1);
            rest = others;
            // Behind its own words a wrapper takes no more options.
            if operands == 0 {
                return Ok(rest);
            }
        } else {
            return Ok(rest);
        }
    }
    if operands > 0 { Err(Opaque::naming("no command behind", wrapper.name)) } else { Ok(rest) }
}

/// An option with its value in one word: `-n10`, `-oL`.
fn is_joined(wrapper: &Wrapper, text: &str) -> bool {
    // What stands for the input can stand for the program: only braces, which no program has in its name.
    let fits = |option: &str, value: &str| !value.is_empty() && (option != "-I" || value == "{}");
    let joins = |option: &&str| text.strip_prefix(*option).is_some_and(|value| fits(option, value));
    !text.starts_with("--") && wrapper.valued.iter().any(joins)
}
