//! The verifier for browsers: builds `crates/verifier` to WebAssembly, puts it into one page, and compares its verdicts
//! with this machine's own build. Nothing that is built is kept in the repository.
//!
//! Where the toolchain has the target, it is used. Elsewhere Debian's `rustc-web` and the source of its standard library
//! are unpacked beside the build, not installed: a compiler can only build the standard library of its own version, and
//! the toolchain's own source is not to be had everywhere. It does not cover publishing the page.

#[cfg(test)]
mod tests;

use crate::{lab, shell, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "countersign-verifier";
const MODULE: &str = "countersign_verifier.wasm";
const PAGE: &str = "crates/verifier/page";
/// What is unpacked: compiler, its libraries, and the source of its standard library with all that this depends on.
const PACKAGES: [&str; 5] = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22", "rust-web-src"];
/// Named in a package above, so it is the one version that is asked for.
const UNPACKED: &str = "rustc-web-1.96";

pub(crate) fn command() -> Result<bool> {
    let root = Workspace::root()?;
    let folder = Workspace::read(&root)?.target.join("wasm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    println!("== the module");
    let module = build(&root, &folder)?;
    let page = page(&root, &folder, &module)?;
    println!("== its verdicts, beside this machine's own");
    let agrees = compare(&root, &module)?;
    println!("module: {} ({} bytes)\npage:   {}", module.display(), fs::metadata(&module)?.len(), page.display());
    Ok(agrees)
}

fn build(root: &Path, folder: &Path) -> Result<PathBuf> {
    let mut cargo = shell::cargo(root);
    cargo.args(["rustc", "-p", PACKAGE, "--lib", "--release", "--target", TARGET, "--crate-type", "cdylib"]);
    cargo.env("CARGO_TARGET_DIR", folder);
    // For a page, size counts: it is carried inside.
    for (setting, value) in [("OPT_LEVEL", "s"), ("LTO", "fat"), ("CODEGEN_UNITS", "1"), ("PANIC", "abort")] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    if !has_target(root)? {
        borrow_compiler(root, folder, &mut cargo)?;
    }
    shell::run(&mut cargo)?;
    let built = folder.join(TARGET).join("release").join(MODULE);
    let module = folder.join("verifier.wasm");
    fs::copy(&built, &module).with_context(|| format!("cannot copy `{}`", built.display()))?;
    Ok(module)
}

fn has_target(root: &Path) -> Result<bool> {
    let folder = print(root, &["--print", "target-libdir", "--target", TARGET])?;
    Ok(Path::new(&folder).is_dir())
}

fn print(root: &Path, args: &[&str]) -> Result<String> {
    Ok(shell::capture(Command::new("rustc").current_dir(root).args(args))?.trim_end().to_owned())
}

/// Lets cargo build with the unpacked compiler, and build the standard library first.
fn borrow_compiler(root: &Path, folder: &Path, cargo: &mut Command) -> Result<()> {
    let unpacked = unpack(folder)?;
    let host = print(root, &["--print", "host-tuple"])?;
    let linker = Path::new(&print(root, &["--print", "sysroot"])?).join("lib/rustlib").join(host).join("bin/rust-lld");
    cargo
        .args(["-Z", "build-std=std,panic_abort"])
        // Building a standard library is unstable, yet any compiler does it with its own source.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", unpacked.join("usr/bin/rustc"))
        .env("LD_LIBRARY_PATH", unpacked.join("usr/lib/x86_64-linux-gnu"))
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    Ok(())
}

fn unpack(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join(UNPACKED);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    println!("the toolchain lacks {TARGET}: unpacking Debian's {}", PACKAGES.join(", "));
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    let mut download = Command::new("apt-get");
    download.current_dir(&packages).args(["download", "-qq"]).args(PACKAGES);
    let advice =
        "the module needs either `rustup target add wasm32-unknown-unknown` or Debian 12 with its security updates";
    if !shell::works(&mut download) {
        shell::run(Command::new("apt-get").args(["update", "-qq"])).context(advice)?;
        shell::run(&mut download).context(advice)?;
    }
    let half = folder.join("unpacking");
    for entry in fs::read_dir(&packages)? {
        shell::run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&half))?;
    }
    fs::rename(&half, &unpacked)?;
    fs::remove_dir_all(&packages)?;
    Ok(unpacked)
}

/// One file that needs no server: script and module stand in it.
fn page(root: &Path, folder: &Path, module: &Path) -> Result<PathBuf> {
    let read = |name: &str| {
        let path = root.join(PAGE).join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let template = read("verifier.html")?;
    for place in ["/*SCRIPT*/", "/*MODULE*/"] {
        if template.matches(place).count() != 1 {
            bail!("`{PAGE}/verifier.html` must hold `{place}` once");
        }
    }
    let page = template.replace("/*SCRIPT*/", &read("verifier.js")?).replace("/*MODULE*/", &base64(&fs::read(module)?));
    let path = folder.join("verifier.html");
    fs::write(&path, page)?;
    Ok(path)
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * at) & 63) as usize).copied().unwrap_or_default();
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The lab's Node where there is a lab, else the machine's.
fn compare(root: &Path, module: &Path) -> Result<bool> {
    let node = lab::ready(root).map_or_else(|| "node".into(), |lab| lab.join("bin/node"));
    let mut test = shell::cargo(root);
    test.args(["test", "-p", PACKAGE, "--test", "verdicts"]);
    Ok(test.env("COUNTERSIGN_WASM", module).env("COUNTERSIGN_NODE", node).status()?.success())
}
