//! Claim: a report that cannot be written is named with its cause and what helps, what is written is whole,
//! and what lay in its place before stays.
//!
//! Method: `/dev/full`, which every disk can be; directories that are missing, or are in the way.

use crate::target;

use std::fs;
use std::path::Path;

use loadgen::Report;
use loadgen::output::{Form, probe, write};
use target::{Target, run};
use testkit::TempDir;

fn report() -> Report {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.buyers = 20;
    run(&plan, &target.audit())
}

/// The one line of a failure.
fn refusal(report: &Report, form: Form, path: &Path) -> String {
    let line = write(report, form, path).expect_err("it cannot be written").to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn every_form_names_file_cause_and_remedy() {
    let report = report();
    for form in Form::ALL {
        let name = form.name();
        assert_eq!(
            refusal(&report, form, Path::new("/dev/full")),
            format!(
                "the {name} report cannot be written to /dev/full: No space left on device (os error 28). \
                 Remedy: free space there, or name a file on another disk"
            )
        );
        assert_eq!(
            refusal(&report, form, Path::new("/nowhere/report")),
            format!(
                "the {name} report cannot be written to /nowhere/report: No such file or directory (os error 2). \
                 Remedy: create the directory, or name a file in one that exists"
            )
        );
    }
    assert!(Path::new("/dev/full").exists(), "a device is written to, never replaced");
}

#[test]
fn what_cannot_work_is_known_before_the_run() {
    let dir = TempDir::new("loadgen-output");
    let file = dir.path().join("report.json");
    assert!(probe(Form::Json, &file).is_ok());
    assert!(probe(Form::Json, Path::new("report.json")).is_ok());
    let missing = probe(Form::Json, &dir.path().join("none/report.json")).expect_err("no such directory");
    assert!(missing.to_string().contains("create the directory"), "{missing}");
    let taken = probe(Form::Json, dir.path()).expect_err("a directory");
    assert!(taken.to_string().contains("not a directory"), "{taken}");
    fs::write(&file, "x").expect("a file");
    let below = probe(Form::Json, &file.join("report.json")).expect_err("a file is no directory");
    assert!(below.to_string().contains("create the directory"), "{below}");
}

#[test]
fn a_file_is_whole_and_alone() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    let mut expected = Vec::new();
    for form in Form::ALL {
        let path = dir.path().join(format!("report.{}", form.name()));
        fs::write(&path, "an older report").expect("a file");
        let written = write(&report, form, &path).expect("a directory of ours");
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
    assert_eq!(found, expected, "nothing half-written lies beside them");
}

#[test]
fn what_lay_there_survives_a_write_that_fails() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    // A directory takes the name of the file that would be written beside it: creating that one fails.
    let path = dir.path().join("report.json");
    fs::write(&path, "an older report").expect("a file");
    let beside = dir.path().join(format!(".report.json.{}.part", std::process::id()));
    fs::create_dir(&beside).expect("a directory");
    let line = refusal(&report, Form::Json, &path);
    assert!(line.contains("report.json: Is a directory"), "{line}");
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "an older report");
}

#[test]
fn a_link_is_followed() {
    let report = report();
    let dir = TempDir::new("loadgen-output");
    let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
    fs::write(&real, "").expect("a file");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    write(&report, Form::Json, &link).expect("it can be written");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(fs::read_to_string(&real).expect("there"), report.json().expect("JSON"));
}
