//! Property: a scenario file is parsed and converted into a plan, or rejected with an error that says where
//! the problem is.

use loadgen::plan::Plan;
use loadgen::scenario::Scenario;

/// Tokens for mutations.
pub const DICTIONARY: &[&str] = &[
    "name = \"x\"\n",
    "about = \"x\"\n",
    "[[phase]]\n",
    "[sale]\n",
    "[mix]\n",
    "[retries]\n",
    "[thresholds]\n",
    "[[fault]]\n",
    "duration = \"1s\"\n",
    "rate = 1.0\n",
    "from = 1\n",
    "to = 2\n",
    "half_life = \"1s\"\n",
    "step = 1\n",
    "steps = 256\n",
    "items = 1\n",
    "stock = 1\n",
    "at = \"1s\"\n",
    "run = \"x\"\n",
    "\"18446744073709551615ms\"",
    "9223372036854775807",
    "-1",
    "nan",
    "inf",
    "1e308",
    "\"",
    "=",
    "\n",
    "[",
    "]",
    "#",
    "'''",
    "\\",
    "\u{e9}",
];

/// Larger scenarios are skipped, because building a plan takes time per arrival.
const ARRIVALS_MAX: u64 = 100_000;

/// Checks the property in the module documentation.
///
/// # Panics
/// When the property is violated.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Scenario::parse(text) {
        Ok(scenario) if scenario.arrivals() > ARRIVALS_MAX => {}
        Ok(scenario) => {
            let mut plan = Plan::new(([127, 0, 0, 1], 8080).into());
            if let Err(reason) = scenario.apply(&mut plan, 1.0) {
                panic!("accepted by parse, then rejected by apply: {reason}");
            }
        }
        Err(reason) => {
            let says_where = ["line ", "phase", "sale.items"].iter().any(|place| reason.contains(place));
            assert!(says_where, "the error does not say where: {reason}");
        }
    }
}
