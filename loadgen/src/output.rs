//! A report as files, one form each. A file is whole or not there: it is written beside its place and then
//! put into it; what lies there already survives a disk that is full.

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

/// A form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Everything; what `merge` and `compare` read.
    Json,
    /// One page with plots.
    Html,
    /// The run, then each moment of it, one JSON object a line.
    Ndjson,
    /// The buckets as a table.
    Csv,
    /// Percentile texts of `HdrHistogram`: 202 in the file itself, every other outcome in a file beside it.
    Hgrm,
    /// The histograms themselves as an interval log of `HdrHistogram`, tagged by outcome.
    Hdr,
    /// Checks as test cases.
    Junit,
}

/// A file of a form: what stands between stem and extension of the given name, and what is in it.
type Part = (String, Vec<u8>);

impl Form {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 7] =
        [Self::Json, Self::Html, Self::Ndjson, Self::Csv, Self::Hgrm, Self::Hdr, Self::Junit];

    /// Its name, and that of its flag.
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
            Self::Json => {
                "Where the report goes as JSON (docs/loadgen-report.md); what merge and compare read"
            }
            Self::Html => "Where the report goes as a page with plots",
            Self::Ndjson => "Where the time series goes, one JSON object a line, the run first",
            Self::Csv => "Where the time series goes as a table",
            Self::Hgrm => {
                "Where the percentiles of 202 go for the plotter of HdrHistogram; other outcomes go beside it, as \
                 FILE.409.hgrm"
            }
            Self::Hdr => "Where the histograms go as an interval log of HdrHistogram, tagged by outcome",
            Self::Junit => "Where the checks go as JUnit XML",
        }
    }

    /// The files of this form; the first one belongs into the given place itself.
    fn parts(self, report: &Report) -> Result<Vec<Part>, String> {
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

/// A file that could not be written: which, why, and what helps.
#[derive(Debug)]
pub struct NotWritten {
    form: Form,
    path: PathBuf,
    reason: String,
    remedy: &'static str,
}

impl NotWritten {
    fn new(form: Form, path: &Path, error: &io::Error) -> Self {
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
        Self { form, path: path.to_owned(), reason: error.to_string(), remedy }
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { form, path, reason, remedy } = self;
        write!(
            formatter,
            "the {} report cannot be written to {}: {reason}. Remedy: {remedy}",
            form.name(),
            path.display()
        )
    }
}

impl std::error::Error for NotWritten {}

/// Looks, before a run is spent on it, whether a file could be put there at all.
///
/// # Errors
/// When its directory is not there, or the place is taken by a directory.
pub fn probe(form: Form, path: &Path) -> Result<(), NotWritten> {
    let fault = |kind: io::ErrorKind| NotWritten::new(form, path, &kind.into());
    if path.is_dir() {
        return Err(fault(io::ErrorKind::IsADirectory));
    }
    match fs::metadata(directory(path)) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(fault(io::ErrorKind::NotADirectory)),
        Err(error) => Err(NotWritten::new(form, path, &error)),
    }
}

/// Writes the report in one form; the files that were written.
///
/// # Errors
/// With the first file that could not be written. Files of the same form before it are whole.
pub fn write(report: &Report, form: Form, path: &Path) -> Result<Vec<PathBuf>, NotWritten> {
    let fault = |path: &Path, error: &io::Error| NotWritten::new(form, path, error);
    let parts = form.parts(report).map_err(|reason| fault(path, &io::Error::other(reason)))?;
    let mut written = Vec::new();
    for (inner, content) in parts {
        // A pipe or a device takes the first file only: nothing belongs beside it.
        if !inner.is_empty() && is_special(path) {
            break;
        }
        let path = if inner.is_empty() { path.to_owned() } else { beside(path, &inner) };
        put(&path, &content).map_err(|error| fault(&path, &error))?;
        written.push(path);
    }
    Ok(written)
}

/// Writes a JSON text that is no [`Report`], with the same promises.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(text: &str, path: &Path) -> Result<(), NotWritten> {
    put(path, text.as_bytes()).map_err(|error| NotWritten::new(Form::Json, path, &error))
}

/// `report.hgrm` with `409` is `report.409.hgrm`.
fn beside(path: &Path, inner: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".");
    name.push(inner);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A device, a pipe or a socket: it has no place to be put into, and takes bytes as they come.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Puts a file in its place when all of it is on the disk.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_special(path) {
        return File::options().write(true).open(path)?.write_all(content);
    }
    // Where a link leads, not in the place of the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(content)?;
        // Some disks tell only now that they are full.
        file.sync_all()?;
        fs::rename(&part, &path)
    });
    if written.is_err() {
        // It may not even be there.
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
