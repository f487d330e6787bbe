//! Claim: every scenario of the tree is a plan that can be run, and a file that is wrong is refused with a sentence
//! that names the place.
//!
//! Method: all files under `perf/scenarios/`, then wrong texts.

use std::path::Path;

use loadgen::Plan;
use loadgen::scenario::Scenario;

fn plan() -> Plan {
    Plan::new(([127, 0, 0, 1], 1).into())
}

#[test]
fn every_scenario_of_the_tree_is_a_plan() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/scenarios");
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir).expect("the scenarios are there") {
        let path = file.expect("a file").path();
        let scenario = Scenario::read(&path).unwrap_or_else(|reason| panic!("{reason}"));
        let mut plan = plan();
        scenario.apply(&mut plan, 0.5).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()));
        assert_eq!(plan.faults(), Vec::<String>::new(), "{}", path.display());
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
fn what_is_wrong_is_said_with_its_place() {
    let head = "name = \"n\"\nabout = \"a\"\n";
    let phase = "[[phase]]\nname = \"p\"\nduration = \"1s\"\n";
    for (text, said) in [
        (String::new(), "missing field `name`"),
        (format!("{head}phase = []"), "there is no [[phase]]"),
        (format!("{head}{phase}"), "must have `rate`"),
        (format!("{head}{phase}rate = 1\nto = 2"), "must have `rate`"),
        (format!("{head}{phase}rte = 1"), "unknown field `rte`"),
        (format!("{head}[[phase]]\nname = \"p\"\nduration = \"soon\"\nrate = 1"), "no duration"),
        (format!("{head}[mix]\nduplicate = 1\n{phase}rate = 1"), "unknown field `duplicate`"),
    ] {
        let reason = Scenario::parse(&text).expect_err(&text);
        assert!(reason.contains(said), "{text}\n{reason}");
    }
    let reason = Scenario::read(Path::new("/nowhere.toml")).expect_err("no such file");
    assert!(reason.contains("/nowhere.toml"), "{reason}");
}

#[test]
fn a_plan_out_of_range_names_every_fault() {
    let text = "name = \"n\"\nabout = \"a\"\n[mix]\nduplicates = 0.9\nreused = 0.9\n\
                [[phase]]\nname = \"p\"\nduration = \"1s\"\nfrom = 0\nto = 0";
    let mut plan = plan();
    Scenario::parse(text).expect("well-formed").apply(&mut plan, 1.0).expect("phases");
    let faults = plan.faults().join("\n");
    for said in ["duplicates_share + reused_share", "phase \"p\": rates"] {
        assert!(faults.contains(said), "{faults}");
    }
}
