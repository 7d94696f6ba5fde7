//! The repository's files, read once, so that every check is a function of them and can be tried on small strings.
//!
//! It holds what Git would commit (tracked, and new but not ignored). Outside Git it walks the folders instead.

use crate::shell;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// Larger files are known by name only: no text that a person wrote is that long.
const TEXT_BYTES_MAX: u64 = 4 << 20;
const NEVER_WALKED: [&str; 4] = [".git", "target", "node_modules", ".lab"];

/// Paths relative to the root with `/` between parts; no text where a file is binary or too large.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the repository at `root`.
    ///
    /// # Errors
    /// When a folder or a file cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let paths = match shell::capture(&mut git) {
            Ok(listed) => listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect(),
            Err(_) => walk(root)?,
        };
        let mut files = BTreeMap::new();
        for path in paths {
            let place = root.join(&path);
            let Ok(kind) = fs::symlink_metadata(&place) else {
                continue; // deleted, and not yet from the index
            };
            if !kind.is_file() {
                continue;
            }
            let text = if kind.len() <= TEXT_BYTES_MAX {
                let bytes = fs::read(&place).with_context(|| format!("cannot read `{path}`"))?;
                String::from_utf8(bytes).ok()
            } else {
                None
            };
            files.insert(path, text);
        }
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())));
        Self { files: files.collect() }
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Every text file with its path, in order of path.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// True for a file and for a folder that holds one.
    pub(crate) fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.files.contains_key(path) || self.under(path).next().is_some()
    }

    /// Paths of the files under a folder, at any depth.
    pub(crate) fn under<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a str> {
        let folder = format!("{folder}/");
        self.files
            .range(folder.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&folder))
    }

    /// Names right under a folder: of its files, and of its folders with a closing `/`.
    pub(crate) fn children(&self, folder: &str) -> BTreeSet<String> {
        let skip = folder.len().saturating_add(1);
        let rests = self.under(folder).filter_map(|path| path.get(skip..));
        rests.map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(name, _)| format!("{name}/"))).collect()
    }
}

fn walk(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !NEVER_WALKED.iter().any(|name| entry.file_name() == *name) {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                found.push(path.strip_prefix(root)?.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}
