//! What Cargo knows of the workspace: its crates, the edges between them, and what they draw in.
//!
//! Only normal dependencies count: what tests and build scripts use does not reach the shipped binary.

#[cfg(test)]
mod tests;

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Every package but `xtask` is named `countersign-` and its folder.
pub(crate) const PREFIX: &str = "countersign-";

/// One crate of this repository, under its short name (without the prefix).
#[derive(Clone, Debug, Default)]
pub(crate) struct Crate {
    /// The folder, relative to the repository, `/` between parts.
    pub(crate) dir: String,
    /// Short names of the crates of this repository that it depends on.
    pub(crate) internal: BTreeSet<String>,
    /// Package names of everything that it depends on directly.
    pub(crate) direct: BTreeSet<String>,
    /// Package names of everything that it draws in, directly or not, as resolved for the workspace.
    pub(crate) drawn: BTreeSet<String>,
}

/// The crates, by short name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) crates: BTreeMap<String, Crate>,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The repository's root.
    ///
    /// # Errors
    /// When this crate was built outside a workspace.
    pub(crate) fn root() -> Result<PathBuf> {
        let here =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = here.parent().context("xtask has no folder above it")?;
        Ok(root.to_path_buf())
    }

    /// Asks `cargo metadata`.
    ///
    /// # Errors
    /// When cargo fails or answers in a shape that is not known.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text = shell::capture(shell::cargo(root).args(["metadata", "--format-version", "1"]))?;
        Self::parse(&text, root).context("`cargo metadata` answered in an unknown shape")
    }

    fn parse(text: &str, root: &Path) -> Result<Self> {
        let metadata: Value = serde_json::from_str(text)?;
        let names = names(&metadata)?;
        let edges = normal_edges(&metadata)?;
        let members: BTreeSet<&str> = list(&metadata, "workspace_members")?.iter().filter_map(Value::as_str).collect();
        let mut crates = BTreeMap::new();
        for package in list(&metadata, "packages")? {
            let id = string(package, "id")?;
            if !members.contains(id) {
                continue;
            }
            let name_of = |id: &&str| names.get(id).copied();
            let near = edges.get(id).into_iter().flatten();
            let folder =
                Path::new(string(package, "manifest_path")?).parent().context("a manifest without a folder")?;
            let found = Crate {
                dir: folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().replace('\\', "/"),
                internal: near.clone().filter(|id| members.contains(*id)).filter_map(name_of).map(short).collect(),
                direct: near.filter_map(name_of).map(str::to_owned).collect(),
                drawn: reachable(id, &edges).iter().filter_map(name_of).map(str::to_owned).collect(),
            };
            crates.insert(short(string(package, "name")?), found);
        }
        let target = string(&metadata, "target_directory")?.into();
        Ok(Self { crates, target })
    }
}

/// A package name without the prefix.
pub(crate) fn short(package: &str) -> String {
    package.strip_prefix(PREFIX).unwrap_or(package).to_owned()
}

type Edges<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn names(metadata: &Value) -> Result<BTreeMap<&str, &str>> {
    list(metadata, "packages")?.iter().map(|package| Ok((string(package, "id")?, string(package, "name")?))).collect()
}

fn normal_edges(metadata: &Value) -> Result<Edges<'_>> {
    let resolve = metadata.get("resolve").context("no `resolve`")?;
    let mut edges = BTreeMap::new();
    for node in list(resolve, "nodes")? {
        let mut near = Vec::new();
        for dep in list(node, "deps")? {
            let kinds = list(dep, "dep_kinds")?;
            if kinds.iter().any(|kind| kind.get("kind").is_some_and(Value::is_null)) {
                near.push(string(dep, "pkg")?);
            }
        }
        edges.insert(string(node, "id")?, near);
    }
    Ok(edges)
}

fn reachable<'a>(from: &str, edges: &Edges<'a>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(id) = open.pop() {
        if let Some((id, near)) = edges.get_key_value(id)
            && seen.insert(*id)
        {
            open.extend(near);
        }
    }
    seen
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("no list `{key}`"))
}

fn string<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.get(key).and_then(Value::as_str).with_context(|| format!("no text `{key}`"))
}
