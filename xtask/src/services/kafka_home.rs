//! Apache Kafka from Maven Central: jars in `.services/kafka-<version>/libs`, downloaded once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{apt, download_dir, trust};
use crate::step::{self, Result};

/// The Kafka version the tests run against.
pub(super) const VERSION: &str = "4.1.0";
/// Must match the series of Kafka's `slf4j-api`; a binding of another series logs nothing.
const SLF4J_VERSION: &str = "1.7.36";
/// Pinned; otherwise Maven uses the newest version.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";
/// Kafka 4's broker requires it.
const JAVA_MIN: u32 = 17;

/// The directory with Kafka's jars in `libs/`. Also ensures that a JRE that can run them is installed.
pub(super) fn obtain() -> Result<PathBuf> {
    obtain_version(VERSION)
}

/// Like [`obtain`], for another version than [`VERSION`].
pub(crate) fn obtain_version(version: &str) -> Result<PathBuf> {
    let java = java()?;
    let dir = download_dir()?;
    let home = dir.join(format!("kafka-{version}"));
    if !home.is_dir() {
        step::timed(&format!("download Kafka {version} (Maven)"), || fetch(&java, &dir, &home, version))?;
    }
    Ok(home)
}

/// A Java of at least version [`JAVA_MIN`].
fn java() -> Result<PathBuf> {
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => apt::program("java", "default-jre-headless")?,
    };
    let mut command = Command::new(&java);
    command.arg("--version");
    let text = step::capture(command, Duration::from_secs(30))?;
    match java_major(&text) {
        Some(major) if major >= JAVA_MIN => Ok(java),
        _ => Err(format!(
            "Kafka {VERSION} requires Java {JAVA_MIN} or newer; `{} --version` printed: {}. Remedy: set JAVA_HOME.",
            java.display(),
            text.lines().next().unwrap_or("nothing")
        )
        .into()),
    }
}

/// `17` of `openjdk 17.0.15 2025-04-15`.
fn java_major(version: &str) -> Option<u32> {
    version.split_whitespace().nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

/// Downloads into a directory next to `home` and renames it when complete, so that an incomplete Kafka is never
/// used.
fn fetch(java: &Path, dir: &Path, home: &Path, version: &str) -> Result<()> {
    let maven = apt::program("mvn", "maven")?;
    let partial = dir.join(format!("kafka-{version}.partial-{}", std::process::id()));
    fs::create_dir_all(&partial).map_err(|e| format!("{}: {e}", partial.display()))?;
    let result =
        fetch_into(&maven, java, &partial, version).and_then(|()| match fs::rename(&partial, home) {
            // Another run finished first.
            Err(_) if home.is_dir() => Ok(()),
            renamed => renamed.map_err(|e| format!("{}: {e}", home.display()).into()),
        });
    // Exists only if the rename failed.
    drop(fs::remove_dir_all(&partial));
    result
}

fn fetch_into(maven: &Path, java: &Path, partial: &Path, version: &str) -> Result<()> {
    let pom = partial.join("pom.xml");
    fs::write(&pom, pom_text(version)).map_err(|e| format!("{}: {e}", pom.display()))?;
    let mut command = Command::new(maven);
    if let Some(trust) = trust::java_options(java, partial)? {
        let options = std::env::var("MAVEN_OPTS").unwrap_or_default();
        command.env("MAVEN_OPTS", format!("{options} {trust}"));
    }
    command
        .args(["-q", "-B", "-Dstyle.color=never", "-f"])
        .arg(&pom)
        .arg(format!("{PLUGIN}:copy-dependencies"))
        .arg(format!("-DoutputDirectory={}", partial.join("libs").display()))
        // Excludes Kafka 3's own binding: of two bindings SLF4J uses the first it finds, and that one logs nothing.
        .arg("-DexcludeArtifactIds=slf4j-reload4j")
        .stdout(std::io::stderr());
    step::run(command).map_err(|failure| match failure {
        step::Failure::Failed(reason) => format!(
            "{reason}. Kafka is downloaded from Maven Central. If you need a mirror, configure it in ~/.m2/settings.xml."
        )
        .into(),
        interrupted @ step::Failure::Interrupted => interrupted,
    })?;
    let core = partial.join("libs").join(format!("kafka_2.13-{version}.jar"));
    if core.is_file() {
        Ok(())
    } else {
        Err(format!("Maven succeeded, but {} is missing", core.display()).into())
    }
}

fn pom_text(kafka: &str) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>local</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>\n  \
         <dependencies>\n{}{}{}  </dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", kafka),
        dependency("org.apache.kafka", "kafka-tools", kafka),
        dependency("org.slf4j", "slf4j-simple", SLF4J_VERSION),
    )
}

#[cfg(test)]
mod tests {
    use super::java_major;

    #[test]
    fn java_major_version_is_parsed() {
        assert_eq!(java_major("openjdk 17.0.15 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(java_major("openjdk 25-ea 2025-09-16"), Some(25));
        assert_eq!(java_major("java 21 2023-09-19 LTS"), Some(21));
        assert_eq!(java_major("nothing"), None);
    }
}
