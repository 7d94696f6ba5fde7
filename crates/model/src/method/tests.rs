//! The list is in order, and no tool is taken for a method.

use super::*;

fn tool(name: &str) -> ToolName {
    name.parse().unwrap()
}

#[test]
fn the_list_is_sorted_and_every_name_is_one_of_a_tool() {
    let all: Vec<&str> = names().collect();
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    assert!(all.iter().all(|name| is_method(&tool(name))));
    assert!(QUESTIONS.iter().all(|question| all.contains(question)));
    for method in &METHODS {
        let parameters: std::collections::BTreeSet<_> = method.parameters.iter().collect();
        assert_eq!(parameters.len(), method.parameters.len(), "{}", method.name);
        assert!(!method.parameters.contains(&"_meta"), "{}", method.name);
    }
}

#[test]
fn a_method_is_known_by_its_manifest_and_a_tool_is_not() {
    let (read, other) = (tool("resources/read"), tool("vendor/do"));
    assert!(is_manifest(&read, &manifest(&read)) && is_manifest(&other, &manifest(&other)));
    assert!(!is_manifest(&read, &manifest(&other)));
    // Whatever an upstream writes into a definition: it is hashed in a domain of its own.
    assert!(!is_manifest(&read, &Digest::of("countersign tool v1", &[b"resources/read"])));
    assert_eq!((manifest_of(&read), manifest_of(&other)), (Some(manifest(&read)), None));
    for name in ["query", "tools/call", "resources/Read", "resources/readx", "resources"] {
        assert!(!is_method(&tool(name)), "{name}");
        assert!(parameters(name).is_empty(), "{name}");
    }
    assert_eq!(parameters("resources/read"), ["uri"]);
}
