//! Property: every scenario file in the repository is a valid plan, and an invalid file is rejected with a
//! message that names the position.
//!
//! Method: all files under `perf/scenarios/`, then invalid texts.

use std::path::Path;

use loadgen::Plan;
use loadgen::scenario::Scenario;

fn plan() -> Plan {
    Plan::new(([127, 0, 0, 1], 1).into())
}

#[test]
fn every_scenario_file_is_a_valid_plan() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/scenarios");
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir).expect("the directory exists") {
        let path = file.expect("a file").path();
        let scenario = Scenario::read(&path).unwrap_or_else(|reason| panic!("{reason}"));
        let mut plan = plan();
        scenario.apply(&mut plan, 0.5).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()));
        assert_eq!(plan.errors(), Vec::<String>::new(), "{}", path.display());
        assert!(plan.buyers > 1_000, "{}", path.display());
        names.push(scenario.name);
    }
    names.sort();
    let expected = [
        "doors-open",
        "flash-sale",
        "hot-item",
        "reconnect-storm",
        "retry-storm",
        "soak",
        "spike",
        "staircase",
        "steady",
    ];
    assert_eq!(names, expected);
}

#[test]
fn errors_name_their_position() {
    let head = "name = \"n\"\nabout = \"a\"\n";
    let phase = "[[phase]]\nname = \"p\"\nduration = \"1s\"\n";
    for (text, said) in [
        (String::new(), "missing field `name`"),
        (format!("{head}phase = []"), "there is no [[phase]]"),
        (format!("{head}{phase}"), "must have `rate`"),
        (format!("{head}{phase}rate = 1\nto = 2"), "must have `rate`"),
        (format!("{head}{phase}rte = 1"), "unknown field `rte`"),
        (format!("{head}[[phase]]\nname = \"p\"\nduration = \"soon\"\nrate = 1"), "not a duration"),
        (format!("{head}[mix]\nduplicate = 1\n{phase}rate = 1"), "unknown field `duplicate`"),
    ] {
        let reason = Scenario::parse(&text).expect_err(&text);
        assert!(reason.contains(said), "{text}\n{reason}");
    }
    let reason = Scenario::read(Path::new("/nowhere.toml")).expect_err("no such file");
    assert!(reason.contains("/nowhere.toml"), "{reason}");
}

#[test]
fn a_plan_out_of_range_names_every_error() {
    let text = "name = \"n\"\nabout = \"a\"\n[mix]\nduplicates = 0.9\nreused = 0.9\n\
                [[phase]]\nname = \"p\"\nduration = \"1s\"\nfrom = 0\nto = 0";
    let mut plan = plan();
    Scenario::parse(text).expect("well-formed").apply(&mut plan, 1.0).expect("phases");
    let errors = plan.errors().join("\n");
    for said in ["duplicates_share + reused_share", "phase \"p\": rates"] {
        assert!(errors.contains(said), "{errors}");
    }
}
