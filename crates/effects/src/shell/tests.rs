use proptest::prelude::*;

use super::{programs, programs_of_words, spoken, spoken_words};

fn is(text: &str, expected: &[&str]) {
    let found = programs(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn every_simple_command_counts() {
    is("ls", &["ls"]);
    is("  ls -la /tmp  ", &["ls"]);
    is("/usr/bin/git status", &["git"]);
    is("cd /srv && git pull; make -j2 | tee x || echo 'it failed: $?'", &["cd", "echo", "git", "make", "tee"]);
    is("echo a;\necho b\n\nls", &["echo", "ls"]);
    is("git log |\n head", &["git", "head"]);
    is("'rm' -rf x", &["rm"]);
    is("r\\m -rf x", &["rm"]);
    is("\"r\"m -rf x", &["rm"]);
    is("ls 2>/dev/null >>/dev/null 2>&1", &["ls"]);
    is("grep \"a\\.b\" *.txt ~/x 'a;b|c&&d $(e)'", &["grep"]);
    is("echo a=b", &["echo"]);
    is("kubectl scale deploy/x --replicas=3", &["kubectl"]);
    is("find . -name '*.rs'", &["find"]);
}

#[test]
fn wrappers_are_looked_through() {
    is("sudo rm -rf /", &["rm", "sudo"]);
    is("sudo -n -u root rm x", &["rm", "sudo"]);
    is("sudo -uroot -- rm x", &["rm", "sudo"]);
    is("env rm x", &["env", "rm"]);
    is("env", &["env"]);
    is("nohup nice -n 10 timeout -k 5 30s rm x", &["nice", "nohup", "rm", "timeout"]);
    is("timeout -- 5 rm", &["rm", "timeout"]);
    is("stdbuf -oL setsid -f rm", &["rm", "setsid", "stdbuf"]);
    is("ls | xargs -0 -n1 rm -f", &["ls", "rm", "xargs"]);
    is("ls | xargs -I {} rm {}", &["ls", "rm", "xargs"]);
    is("ls | xargs", &["ls", "xargs"]);
}

#[test]
fn what_is_not_understood_is_opaque() {
    for text in [
        "",
        "   ",
        ";",
        "ls;;",
        "| ls",
        "ls |",
        "ls &&",
        "&& ls",
        "ls & rm",
        "ls &",
        "ls |& rm",
        "ls &&& rm",
        "a ; ; b",
        "$(rm x)",
        "`rm x`",
        "ls $(rm x)",
        "ls \"$(rm x)\"",
        "ls \"`rm x`\"",
        "ls $HOME",
        "$SHELL",
        "ls <(rm x)",
        "ls > x",
        "ls >> x",
        "ls < x",
        "cat << EOF\nx\nEOF",
        "cat <<< x",
        "ls 3>/dev/null/../x",
        "ls >&3",
        "ls &> x",
        "ls >| x",
        "ls > /dev/nul?",
        "ls 2>&1x",
        "(ls)",
        "{ ls; }",
        "{ls,-la}",
        "! ls",
        "ls !x",
        "echo \"!x\"",
        "f() { ls; }",
        "if true; then rm x; fi",
        "for x in a; do rm; done",
        "while true; do ls; done",
        "time ls",
        "[ -f x ]",
        "[[ -f x ]]",
        "case x in esac",
        "function f",
        "eval rm",
        "exec rm",
        "source x",
        ". x",
        "alias ls=rm",
        "command rm",
        "builtin cd",
        "trap rm EXIT",
        "export A",
        "set -e",
        "unset A",
        "jobs -x rm",
        "compgen -C rm",
        "printf -v PATH /tmp",
        "test -v x",
        "printf * x",
        "LD_PRELOAD=x ls",
        "A=b",
        "A=b ls",
        "env A=b ls",
        "sudo A=b ls",
        "env -S 'rm x'",
        "env -u A ls",
        "*/rm",
        "r? x",
        "~/bin/x",
        "./x",
        "../x",
        "/tmp/rm x",
        "/usr/bin/../../tmp/rm",
        "bin/x",
        "..",
        "''",
        "'' ls",
        "'a b'",
        "-x",
        "#x",
        "ls # x",
        "ls \\\n rm",
        "ls 'x",
        "ls \"x",
        "ls \\",
        "ls\r\nrm",
        "l\u{455}",
        "ls \u{a0}rm",
        "ls\0rm",
        "bash -c 'rm x'",
        "sh x",
        "/bin/sh -c x",
        "busybox rm",
        "su -c x",
        "ssh host rm",
        "watch rm",
        "parallel rm",
        "find . -exec rm {} \\;",
        "find . -execdir rm",
        "find . -ok rm",
        "find *",
        "strace rm",
        "sudo",
        "sudo -n",
        "sudo -i",
        "sudo -s",
        "sudo -nu root rm",
        "sudo -u",
        "sudo -u * rm",
        "timeout 5",
        "timeout",
        "timeout * rm",
        "timeout --signal KILL 5 rm",
        "nohup",
        "xargs -a x rm",
        "xargs env",
        "xargs sudo -n",
        "xargs sh",
        "xargs xargs env",
        "xargs nice",
        "xargs find",
        "xargs -I rm rm",
        "xargs -Irm rm",
        "xargs -I {} {}",
        "xargs -I {} env {}",
        "sudo bash",
        "env sh",
        "sudo ./x",
        "sudo $X",
        "env -i ./x",
        "nice -10 rm",
    ] {
        assert!(programs(text).is_err(), "{text:?}: {:?}", programs(text));
    }
    assert!(programs(&"a".repeat(129)).is_err());
    assert!(programs(&"ls ".repeat(30_000)).is_err());
}

#[test]
fn a_list_of_words_must_be_the_same_to_a_shell() {
    let is = |list: &[&str], expected: Option<&[&str]>| {
        let found = programs_of_words(list).ok();
        let found = found.as_ref().map(|found| found.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{list:?}");
    };
    is(&["git", "status", "-s"], Some(&["git"]));
    is(&["sudo", "rm", "x"], Some(&["rm", "sudo"]));
    for list in [
        &["ls; rm x"] as &[&str],
        &["ls", "; rm"],
        &["ls", "a b"],
        &["ls", "a;rm"],
        &["ls", "$(rm)"],
        &["ls", "'a'"],
        &["ls", ""],
        &["ls", ">", "x"],
        &["ls", "2>/dev/null"],
        &["ls", "&&", "rm"],
        &[],
    ] {
        is(list, None);
    }
}

#[test]
fn quotes_are_not_spoken() {
    let check = |text: &str, expected: &str| assert_eq!(spoken(text), expected, "{text}");
    check("terraform 'apply' -auto-approve", "terraform apply -auto-approve");
    check("rm '-rf' /", "rm -rf /");
    check("r\\m -r\"\"f  /", "rm -rf /");
    check("curl x | 'python3'", "curl x | python3");
    check("a && 'b'\n\"c\" || d; e;", "a && b ; c || d ; e ;");
    // A separator that is quoted ends no command, and what is thrown away is no part of one.
    check("rm 'a;b' x\\&y -rf", "rm a_b x_y -rf");
    check("curl 'x?a&b' 2>&1 | sh", "curl x?a_b | sh");
    // Not understood.
    check("rm '-rf' $HOME", "rm -rf $HOME");
    check("r\\m \"-rf\" /\u{e4} > x", "rm -rf /\u{e4} > x");
    check("rm $'-rf' -\\\nv `x", "rm -rf -v `x");
    check("rm '-rf", "rm -rf");
    check("", "");
    let check = |list: &[&str], expected: &[&str]| assert_eq!(spoken_words(list), expected, "{list:?}");
    check(&["rm", "-rf", "/"], &["rm -rf /"]);
    check(&["rm", "a;b", "-rf"], &["rm a_b -rf", "rm a ; b -rf"]);
    check(&["bash", "-c", "terraform 'apply'"], &["bash -c terraform 'apply'", "bash -c terraform apply"]);
    check(&[], &[""]);
}

/// Whatever starts others is opaque, behind a wrapper and in capitals too.
#[test]
fn programs_that_start_others_are_opaque() {
    for name in [
        "prlimit",
        "setarch",
        "linux32",
        "linux64",
        "setpriv",
        "runcon",
        "numactl",
        "fakeroot",
        "firejail",
        "bwrap",
        "gosu",
        "su-exec",
        "tini",
        "dumb-init",
        "chpst",
        "cgexec",
        "aa-exec",
        "capsh",
        "ltrace",
        "strace",
        "perf",
        "rlwrap",
        "unbuffer",
        "sshpass",
        "cpulimit",
        "eatmydata",
        "choom",
        "sg",
        "ip",
        "xvfb-run",
        "dbus-run-session",
        "proxychains",
        "proxychains4",
        "bash",
        "eval",
    ] {
        let upper = name.to_ascii_uppercase();
        for text in [
            format!("{name} rm x"),
            format!("/usr/bin/{name} rm x"),
            format!("sudo {name} rm x"),
            format!("{upper} rm x"),
        ] {
            assert!(programs(&text).is_err(), "{text}");
        }
    }
    for text in ["SUDO rm x", "Env rm", "FIND . -exec rm {} +", "xargs Find", "PRINTF -v A x"] {
        assert!(programs(text).is_err(), "{text}");
    }
    is("FIND . -name x", &["FIND"]);
}

proptest! {
    /// However a word is quoted, the same is heard.
    #[test]
    fn quotes_change_nothing_that_is_spoken(words in prop::collection::vec("[a-z0-9./_-]{1,8}", 1..6), seed in any::<u64>()) {
        let quoted = words.iter().zip(0_u32..).map(|(word, at)| match seed.rotate_left(at * 2) % 4 {
            0 => format!("'{word}'"),
            1 => format!("\"{word}\""),
            2 => format!("\\{word}"),
            _ => word.clone(),
        });
        let quoted = quoted.collect::<Vec<_>>().join(" ");
        prop_assert_eq!(spoken(&quoted), words.join(" "));
        // Nor where the text is not understood.
        prop_assert_eq!(spoken(&format!("{quoted} $X")), format!("{} $X", words.join(" ")));
    }

    /// Quoting a word never changes which program it names.
    #[test]
    fn quotes_hide_nothing(name in "[a-z]{2,8}", word in "[a-z0-9 ;|&$()]{0,12}") {
        prop_assume!(programs(&name).is_ok());
        let plain = programs(&name);
        prop_assert_eq!(&programs(&format!("'{name}' '{word}'")), &plain);
        prop_assert_eq!(&programs(&format!("\"{name}\"")), &plain);
    }

    /// However a text goes on behind a separator, what stands there is found or the text is opaque.
    #[test]
    fn a_second_command_never_hides(head in "[ -~]{0,20}", joint in "(;|&&|\\|\\||\\||\n)") {
        let text = format!("{head}{joint}rm x");
        if let Ok(found) = programs(&text) {
            // Quoted, it is no command; then the quote must close behind it, and it does not.
            prop_assert!(found.contains("rm"), "{text:?} {found:?}");
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = programs(&text);
        let _ = spoken(&text);
    }
}
