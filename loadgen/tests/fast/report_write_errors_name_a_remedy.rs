//! Property: if a report cannot be written, the message has path, cause and remedy; written files are
//! complete, and an existing file survives a failed write.
//!
//! Method: `/dev/full` as a full disk; missing directories, and directories in place of files.

use std::fs;
use std::path::Path;

use report::Report;
use report::output::{Format, probe, write};
use target::{Target, run};
use testkit::TempDir;

use crate::target;

fn report() -> Report {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.buyers = 20;
    run(&plan, &target.audit())
}

/// The message of a failed write, one line.
fn refusal(report: &Report, format: Format, path: &Path) -> String {
    let line = write(report, format, path).expect_err("it cannot be written").to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn every_format_reports_file_cause_and_remedy() {
    let report = report();
    for format in Format::ALL {
        let name = format.name();
        assert_eq!(
            refusal(&report, format, Path::new("/dev/full")),
            format!(
                "the {name} report cannot be written to /dev/full: No space left on device (os error 28). \
                 Remedy: free space there, or name a file on another disk"
            )
        );
        assert_eq!(
            refusal(&report, format, Path::new("/nowhere/report")),
            format!(
                "the {name} report cannot be written to /nowhere/report: No such file or directory (os error 2). \
                 Remedy: create the directory, or name a file in one that exists"
            )
        );
    }
    assert!(Path::new("/dev/full").exists(), "a device is written to and never replaced");
}

#[test]
fn probe_finds_unwritable_paths_before_the_run() {
    let dir = TempDir::new("loadgen-output");
    let file = dir.path().join("report.json");
    assert!(probe(Format::Json, &file).is_ok());
    assert!(probe(Format::Json, Path::new("report.json")).is_ok());
    let missing =
        probe(Format::Json, &dir.path().join("none/report.json")).expect_err("the directory is missing");
    assert!(missing.to_string().contains("create the directory"), "{missing}");
    let taken = probe(Format::Json, dir.path()).expect_err("the path is a directory");
    assert!(taken.to_string().contains("not a directory"), "{taken}");
    fs::write(&file, "x").expect("a file");
    let below = probe(Format::Json, &file.join("report.json")).expect_err("the parent is a file");
    assert!(below.to_string().contains("create the directory"), "{below}");
}

#[test]
fn files_are_complete_and_no_temporary_file_remains() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    let mut expected = Vec::new();
    for format in Format::ALL {
        let path = dir.path().join(format!("report.{}", format.name()));
        fs::write(&path, "an older report").expect("a file");
        let written = write(&report, format, &path).expect("the directory is writable");
        assert_eq!(written[0], path);
        for file in &written {
            assert!(fs::read(file).expect("it was written").len() > 50, "{}", file.display());
        }
        expected.extend(written);
    }
    let mut found: Vec<_> =
        fs::read_dir(dir.path()).expect("ours").map(|entry| entry.expect("ours").path()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "no temporary file remains");
}

#[test]
fn an_existing_file_survives_a_failed_write() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    // A directory has the name of the temporary file, so creating that file fails.
    let path = dir.path().join("report.json");
    fs::write(&path, "an older report").expect("a file");
    let part_file = dir.path().join(format!(".report.json.{}.part", std::process::id()));
    fs::create_dir(&part_file).expect("a directory");
    let line = refusal(&report, Format::Json, &path);
    assert!(line.contains("report.json: Is a directory"), "{line}");
    assert_eq!(fs::read_to_string(&path).expect("the file still exists"), "an older report");
}

#[test]
fn a_symbolic_link_is_followed() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
    fs::write(&real, "").expect("a file");
    std::os::unix::fs::symlink(&real, &link).expect("a symbolic link");
    write(&report, Format::Json, &link).expect("the file is writable");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(fs::read_to_string(&real).expect("there"), report.json().expect("JSON"));
}
