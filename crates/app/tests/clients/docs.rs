//! `docs/connect.md` shows what the scripts really run, line by line.

const PAGE: &str = include_str!("../../../../docs/connect.md");
const SCRIPTS: [&str; 10] = [
    include_str!("mcp_1.py"),
    include_str!("mcp_2.py"),
    include_str!("ts_1.mjs"),
    include_str!("ts_2.mjs"),
    include_str!("fastmcp_client.py"),
    include_str!("openai_agents_client.py"),
    include_str!("langchain_mcp_adapters_client.py"),
    include_str!("pydantic_ai_client.py"),
    include_str!("mcpadapt_client.py"),
    include_str!("inspector.sh"),
];

/// The lines between `docs: NAME` and `docs: end`, without the margin that all of them share.
fn shown(script: &str) -> Option<String> {
    let (mut lines, mut inside) = (Vec::new(), false);
    for line in script.lines() {
        match line.trim_start().trim_start_matches(['#', '/']).trim_start().strip_prefix("docs: ") {
            Some(name) => inside = name != "end",
            None if inside => lines.push(line),
            None => {}
        }
    }
    let margin = lines.iter().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len()).min()?;
    Some(lines.iter().map(|line| format!("{}\n", line.get(margin..).unwrap_or_default())).collect())
}

/// The page's part about clients.
fn part() -> &'static str {
    let (_, rest) = PAGE.split_once("\n## Clients\n").unwrap();
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

#[test]
fn the_page_shows_what_the_scripts_run_and_nothing_else() {
    let regions: Vec<String> = SCRIPTS.into_iter().filter_map(shown).collect();
    assert_eq!(regions.len(), SCRIPTS.len(), "every client has its lines");
    for region in &regions {
        assert!(part().contains(&format!("\n{region}```\n")), "docs/connect.md lacks this block:\n{region}");
    }
    assert_eq!(part().matches("\n```\n").count(), regions.len(), "a block that no client runs");
}

#[test]
fn lines_lose_the_margin_that_all_share() {
    let script = "x\n    # docs: one\n    a\n\n      b\n    # docs: end\n// docs: one\n    c\n// docs: end\n";
    assert_eq!(shown(script).unwrap(), "a\n\n  b\nc\n");
    assert_eq!(shown("nothing"), None);
}
