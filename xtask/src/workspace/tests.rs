//! What is read from `cargo metadata`: normal edges only, followed to the end.

use super::Workspace;
use std::path::Path;

const METADATA: &str = r#"{
  "target_directory": "/srv/build",
  "workspace_members": ["g", "m"],
  "packages": [
    {"id": "g", "name": "countersign-gate", "manifest_path": "/srv/cs/crates/gate/Cargo.toml"},
    {"id": "m", "name": "countersign-model", "manifest_path": "/srv/cs/crates/model/Cargo.toml"},
    {"id": "t", "name": "tokio", "manifest_path": "/srv/registry/tokio/Cargo.toml"},
    {"id": "b", "name": "bytes", "manifest_path": "/srv/registry/bytes/Cargo.toml"},
    {"id": "p", "name": "proptest", "manifest_path": "/srv/registry/proptest/Cargo.toml"}
  ],
  "resolve": {"nodes": [
    {"id": "g", "deps": [
      {"pkg": "m", "dep_kinds": [{"kind": null}]},
      {"pkg": "t", "dep_kinds": [{"kind": "build"}, {"kind": null}]},
      {"pkg": "p", "dep_kinds": [{"kind": "dev"}]}
    ]},
    {"id": "m", "deps": [{"pkg": "g", "dep_kinds": [{"kind": "dev"}]}]},
    {"id": "t", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
    {"id": "b", "deps": []},
    {"id": "p", "deps": []}
  ]}
}"#;

#[test]
fn normal_edges_are_followed_to_the_end() {
    let workspace = Workspace::parse(METADATA, Path::new("/srv/cs")).unwrap();
    let gate = workspace.crates.get("gate").unwrap();
    assert_eq!(gate.dir, "crates/gate");
    assert!(gate.internal.iter().eq(["model"]));
    assert!(gate.direct.iter().eq(["countersign-model", "tokio"]));
    assert!(gate.drawn.iter().eq(["bytes", "countersign-model", "tokio"]));
    assert!(workspace.crates.get("model").unwrap().drawn.is_empty());
    assert_eq!(workspace.target, Path::new("/srv/build"));
}

#[test]
fn an_unknown_shape_is_an_error() {
    assert!(Workspace::parse("{}", Path::new("/srv/cs")).is_err());
}
