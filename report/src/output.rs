//! Writes a report to files, one per format. A file is complete or absent: it is written to a temporary file
//! in the same directory and then renamed, so an existing file survives a full disk.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::report::Report;

mod csv;

mod hdr;

mod hgrm;

mod junit;

mod ndjson;

/// An output format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Everything; read by `merge` and `compare`.
    Json,
    /// A page with plots.
    Html,
    /// The run, then the time series, one JSON object per line.
    Ndjson,
    /// The buckets as a table.
    Csv,
    /// Percentile texts of `HdrHistogram`: 202 in the given file, every other outcome in a file next to it.
    Hgrm,
    /// The histograms as an interval log of `HdrHistogram`, tagged by outcome.
    Hdr,
    /// Checks as test cases.
    Junit,
}

/// A file of a format: the text between stem and extension of its name, and its content.
type OutputFile = (String, Vec<u8>);

impl Format {
    /// All formats, in the order in which they are written.
    pub const ALL: [Self; 7] =
        [Self::Json, Self::Html, Self::Ndjson, Self::Csv, Self::Hgrm, Self::Hdr, Self::Junit];

    /// Name of the format and of its flag.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Html => "html",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Hgrm => "hgrm",
            Self::Hdr => "hdr",
            Self::Junit => "junit",
        }
    }

    /// For `--help`.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Json => "Write the report as JSON (docs/loadgen-report.md), the input of merge and compare",
            Self::Html => "Write the report as an HTML page with plots",
            Self::Ndjson => "Write the time series as NDJSON, one object per line, the run first",
            Self::Csv => "Write the time series as CSV",
            Self::Hgrm => {
                "Write the percentiles of 202 for the HdrHistogram plotter; other outcomes go to files next to it, \
                 as FILE.409.hgrm"
            }
            Self::Hdr => "Write the histograms as an HdrHistogram interval log, tagged by outcome",
            Self::Junit => "Write the checks as JUnit XML",
        }
    }

    /// The files of this format; the first one is written to the given path.
    fn files(self, report: &Report) -> Result<Vec<OutputFile>, String> {
        let text = |text: String| vec![(String::new(), text.into_bytes())];
        Ok(match self {
            Self::Json => text(report.json().map_err(|error| error.to_string())?),
            Self::Html => text(report.html()),
            Self::Ndjson => text(ndjson::lines(report).map_err(|error| error.to_string())?),
            Self::Csv => text(csv::table(report)),
            Self::Hgrm => hgrm::texts(report)?,
            Self::Hdr => vec![(String::new(), hdr::log(report)?)],
            Self::Junit => text(junit::suite(report)),
        })
    }
}

/// A file that could not be written: path, reason and remedy.
#[derive(Debug)]
pub struct NotWritten {
    format: Format,
    path: PathBuf,
    reason: String,
    remedy: &'static str,
}

impl NotWritten {
    fn new(format: Format, path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free space there, or name a file on another disk"
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                "create the directory, or name a file in one that exists"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "name a file where you may write"
            }
            io::ErrorKind::IsADirectory => "name a file, not a directory",
            _ => "name another file",
        };
        Self { format, path: path.to_owned(), reason: error.to_string(), remedy }
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, path, reason, remedy } = self;
        write!(
            formatter,
            "the {} report cannot be written to {}: {reason}. Remedy: {remedy}",
            format.name(),
            path.display()
        )
    }
}

impl std::error::Error for NotWritten {}

/// Checks before a run whether the file can be created.
///
/// # Errors
/// If its directory does not exist, or the path is a directory.
pub fn probe(format: Format, path: &Path) -> Result<(), NotWritten> {
    let not_written = |kind: io::ErrorKind| NotWritten::new(format, path, &kind.into());
    if path.is_dir() {
        return Err(not_written(io::ErrorKind::IsADirectory));
    }
    match fs::metadata(directory(path)) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(not_written(io::ErrorKind::NotADirectory)),
        Err(error) => Err(NotWritten::new(format, path, &error)),
    }
}

/// Writes the report in one format; returns the written files.
///
/// # Errors
/// The first file that could not be written. Earlier files of the same format are complete.
pub fn write(report: &Report, format: Format, path: &Path) -> Result<Vec<PathBuf>, NotWritten> {
    let not_written = |path: &Path, error: &io::Error| NotWritten::new(format, path, error);
    let files = format.files(report).map_err(|reason| not_written(path, &io::Error::other(reason)))?;
    let mut written = Vec::new();
    for (inner, content) in files {
        // A pipe or a device gets only the first file: other files cannot be created next to it.
        if !inner.is_empty() && is_special(path) {
            break;
        }
        let path = if inner.is_empty() { path.to_owned() } else { sibling(path, &inner) };
        write_file(&path, &content).map_err(|error| not_written(&path, &error))?;
        written.push(path);
    }
    Ok(written)
}

/// Writes another JSON text than a [`Report`], with the same guarantees.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(text: &str, path: &Path) -> Result<(), NotWritten> {
    write_file(path, text.as_bytes()).map_err(|error| NotWritten::new(Format::Json, path, &error))
}

/// `report.hgrm` and `409` give `report.409.hgrm`.
fn sibling(path: &Path, inner: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".");
    name.push(inner);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A device, a pipe or a socket: it cannot be replaced by a rename, so it is written directly.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Writes a temporary file and renames it once it is completely on disk.
fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_special(path) {
        return File::options().write(true).open(path)?.write_all(content);
    }
    // Write to the target of a symbolic link instead of replacing the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(content)?;
        // Some file systems report a full disk only now.
        file.sync_all()?;
        fs::rename(&part, &path)
    });
    if written.is_err() {
        // It may not exist.
        drop(fs::remove_file(&part));
    }
    written
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
