//! The page grows by what is added, and nothing else of it changes.

use super::{seconds, with};

#[test]
fn a_run_is_added_to_its_row_alone() {
    let page = "# Hours\n\n| target | seconds |\n|---|---|\n| json | 60 |\n| sql | 5 |\n";
    let once = with(page, "json", 30);
    assert_eq!(once, page.replace("| json | 60 |", "| json | 90 |"));
    let twice = with(&once, "mcp", 7);
    assert_eq!(twice, format!("{once}| mcp | 7 |\n"));
    assert_eq!((seconds(&twice, "json"), seconds(&twice, "mcp"), seconds(&twice, "target")), (90, 7, 0));
}
