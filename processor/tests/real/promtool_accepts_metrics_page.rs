//! Property: Prometheus's own checker accepts the metrics page without warnings. Method: run
//! `promtool check metrics` on the page of a processor that has processed orders of every kind.

use std::io::Write as _;
use std::process::{Command, Stdio};

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};

use crate::test_processor;

#[test]
fn promtool_accepts_the_metrics_page() {
    let test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "0.5")]);
    test_processor.store.set_stock("101", 20);
    let mut sent: Vec<Sent> = (0..40).map(|number| order(&format!("r-{number}"), "101", 1)).collect();
    sent.push(order("ghost", "gh-o_st", 1));
    sent.push(Sent { value: Some(b"poison".to_vec()), ..Sent::default() });
    test_processor.topics.send(&sent);
    test_processor.wait_processed(42);
    testkit::wait_until("gauges", WAIT_MAX, || {
        test_processor.metric("processor_inventory_level{item_id=\"101\"}").is_some()
            && test_processor.metric("processor_dlq_oldest_message_age_seconds").is_some_and(|age| age > 0.0)
    });
    let page = test_processor.get("/metrics");
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start promtool: {error}. Remedy: apt-get install prometheus");
        });
    tool.stdin.take().expect("piped").write_all(&page.body).expect("promtool reads");
    let output = tool.wait_with_output().expect("promtool exits");
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim().is_empty(), "{text}\n{}", page.text());
}
