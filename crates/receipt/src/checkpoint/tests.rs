//! The strictness of the checkpoint parser.

use expect_test::{Expect, expect};

use super::*;

const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn check(text: &str, expected: Expect) {
    let result = Checkpoint::parse(text);
    let shown = match &result {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.signed_body(), text);
            format!("{} {}", checkpoint.origin, checkpoint.size)
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn only_three_exact_lines() {
    check(&format!("log\n0\n{ROOT}\n"), expect!["log 0"]);
    check(&format!("log\n9223372036854775807\n{ROOT}\n"), expect!["log 9223372036854775807"]);
    check(&format!("log\n0\n{ROOT}"), expect!["checkpoint is not origin, size and root on one line each"]);
    check(&format!("log\n0\n{ROOT}\nextension\n"), expect!["checkpoint is not origin, size and root on one line each"]);
    check("log\n0\n", expect!["checkpoint is not origin, size and root on one line each"]);
    check("", expect!["checkpoint is not origin, size and root on one line each"]);
    check(&format!("\n0\n{ROOT}\n"), expect!["checkpoint has an empty origin"]);
    for size in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "0x1", "９", "9223372036854775808"] {
        let text = format!("log\n{size}\n{ROOT}\n");
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Size { text: size.to_owned() }));
    }
    for root in ["", "AAAA", &ROOT[1..], &ROOT.replace('=', ""), &format!(" {ROOT}")] {
        let text = format!("log\n0\n{root}\n");
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Root { text: root.to_owned() }));
    }
}
