//! Reads JSON reports from files.

use std::path::Path;

use serde::Deserialize;

use crate::report::{Report, SCHEMA};

/// Maximum file size: a report with ten thousand buckets and samples has a tenth of it.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
}

/// Reads a report.
///
/// # Errors
/// Names the file and the cause: missing file, not JSON, another schema, or a missing field.
pub fn read(path: &Path) -> Result<Report, String> {
    let fault = |reason: String| format!("the report {} cannot be read: {reason}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(fault(format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    parse(&text).map_err(fault)
}

fn parse(text: &str) -> Result<Report, String> {
    let head: Head = serde_json::from_str(text).map_err(|error| format!("not a JSON report: {error}"))?;
    match head.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(other) => return Err(format!("its schema is {other:?}, expected {SCHEMA:?}")),
        None => return Err(format!("it has no schema, expected {SCHEMA:?}")),
    }
    serde_json::from_str(text).map_err(|error| format!("unexpected content: {error}"))
}
