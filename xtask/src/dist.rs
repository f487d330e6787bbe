//! `cargo xtask dist`: builds a release archive with a static binary, shell completions and man pages, and its checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::services::apt;
use crate::step::{self, Result};
use crate::workspace;

/// Runs on any x86-64 Linux, because the C library is linked statically.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// Files copied into the archive unchanged.
const FILES: [&str; 5] = ["LICENSE", "README.md", "CHANGELOG.md", "deploy/alerts.yml", "deploy/seccomp.json"];
/// File names under which each shell looks for completions of `flash-sale`.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "flash-sale.bash"), ("zsh", "_flash-sale"), ("fish", "flash-sale.fish")];

/// Builds for `target`, packs into `target/dist`, and prints the path of the archive as the last line.
pub(crate) fn run(target: &str) -> Result<()> {
    install_toolchain(target)?;
    let build = ["build", "--release", "--locked", "--package", "flash-sale", "--target", target];
    step::timed(&format!("build for {target}"), || step::run(workspace::cargo(&build)))?;
    let built = workspace::root().join("target").join(target).join("release/flash-sale");
    if target.ends_with("musl") {
        check_static(&built)?;
    }
    let name = format!("flash-sale-{}-{target}", env!("CARGO_PKG_VERSION"));
    let dist = workspace::root().join("target/dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    fill(&folder, &built)?;
    let archive = pack(&dist, &name)?;
    println!("{}", archive.display());
    Ok(())
}

/// Installs the standard library of the target and, for musl, the compiler for C dependencies.
fn install_toolchain(target: &str) -> Result<()> {
    let mut add = Command::new("rustup");
    add.args(["target", "add", target]).current_dir(workspace::root());
    step::run(add)?;
    if target.ends_with("musl") {
        apt::program("musl-gcc", "musl-tools")?;
    }
    Ok(())
}

/// Fails if the program needs a shared library.
fn check_static(program: &Path) -> Result<()> {
    let mut query = Command::new("readelf");
    query.arg("--dynamic").arg(program);
    let text = step::capture(query, Duration::from_secs(30))?;
    match text.lines().find(|line| line.contains("(NEEDED)")) {
        None => Ok(()),
        Some(line) => Err(format!("{} is not static: {}", program.display(), line.trim()).into()),
    }
}

fn fill(folder: &Path, built: &Path) -> Result<()> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for sub in ["completions", "man"] {
        fs::create_dir_all(folder.join(sub)).map_err(failed)?;
    }
    let program = folder.join("flash-sale");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&program).arg(built);
    step::run(strip)?;
    for (shell, name) in COMPLETIONS {
        let mut command = Command::new(&program);
        command.args(["completions", shell]);
        let script = step::capture(command, Duration::from_secs(10))?;
        fs::write(folder.join("completions").join(name), script).map_err(failed)?;
    }
    let mut man = Command::new(&program);
    man.arg("man").arg("--dir").arg(folder.join("man"));
    step::run(man)?;
    for file in FILES {
        let from = workspace::root().join(file);
        let name = from.file_name().unwrap_or_default();
        fs::copy(&from, folder.join(name)).map_err(|e| format!("{}: {e}", from.display()))?;
    }
    Ok(())
}

/// Packs the folder reproducibly (same content, same bytes) and writes the checksum next to the archive.
fn pack(dist: &Path, name: &str) -> Result<PathBuf> {
    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"])
        .args(["--use-compress-program=gzip -9 -n", "--file", &archive, name])
        .current_dir(dist);
    step::run(tar)?;
    let mut sum = Command::new("sha256sum");
    sum.arg(&archive).current_dir(dist);
    let text = step::capture(sum, Duration::from_mins(1))?;
    let file = dist.join(format!("{archive}.sha256"));
    fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(dist.join(archive))
}
