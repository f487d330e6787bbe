//! Scenario files: load, order mix, faults and limits of a run.
//!
//! A file does not contain the target's address or the audit settings; those are given on the command line.
//! An unknown name is an error with its position, so that a typo does not silently fall back to a default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::Item;
use serde::{Deserialize, Deserializer, de};

use crate::curve::{Curve, Phase, Shape};
use crate::plan::{Arrivals, BUYERS_MAX, Fault, ITEMS_MAX, PHASES_MAX, Plan, Retries};

/// A scenario file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For reports.
    pub name: String,
    /// Purpose of the scenario, in one sentence.
    pub about: String,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    connections: Option<usize>,
    #[serde(default)]
    workers: Option<usize>,
    #[serde(default)]
    requests_per_connection: Option<u64>,
    #[serde(default)]
    arrivals: Option<ArrivalsWord>,
    #[serde(default, deserialize_with = "duration")]
    request_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    drain_timeout: Option<Duration>,
    #[serde(default)]
    find_knee: bool,
    #[serde(default)]
    sale: Sale,
    #[serde(default)]
    mix: Mix,
    #[serde(default)]
    retries: Option<RetriesTable>,
    #[serde(default)]
    thresholds: ThresholdsTable,
    #[serde(rename = "phase")]
    phases: Vec<PhaseTable>,
    #[serde(default, rename = "fault")]
    faults: Vec<FaultTable>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ArrivalsWord {
    Uniform,
    Poisson,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sale {
    items: Option<usize>,
    stock: Option<u64>,
    hot_share: Option<f64>,
    zipf: Option<f64>,
    amount_max: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mix {
    #[serde(default)]
    duplicates: f64,
    #[serde(default)]
    reused: f64,
    #[serde(default)]
    invalid: f64,
    #[serde(default)]
    bots: f64,
    bot_users: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesTable {
    attempts_max: u32,
    #[serde(deserialize_with = "one_duration")]
    back_off: Duration,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdsTable {
    p99_ms: Option<f64>,
    end_to_end_p99_ms: Option<f64>,
    failed_share: Option<f64>,
    processing_p99_s: Option<f64>,
    dlq_size: Option<u64>,
    offered_share: Option<f64>,
    lateness_p99_ms: Option<f64>,
    busy_share: Option<f64>,
    /// Prometheus rule file, relative to the directory of the scenario file.
    alerts: Option<PathBuf>,
    #[serde(default)]
    ignore_alerts: Vec<String>,
}

/// One of: `rate`; `from` and `to`; `from` and `half_life`; `from`, `step` and `steps` (then each step has
/// this `duration`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PhaseTable {
    name: String,
    #[serde(deserialize_with = "one_duration")]
    duration: Duration,
    rate: Option<f64>,
    from: Option<f64>,
    to: Option<f64>,
    #[serde(default, deserialize_with = "duration")]
    half_life: Option<Duration>,
    step: Option<f64>,
    steps: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultTable {
    #[serde(deserialize_with = "one_duration")]
    at: Duration,
    run: String,
    name: Option<String>,
}

fn one_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let ms = settings::kind::parse_duration_ms(&text);
    ms.map(Duration::from_millis)
        .ok_or_else(|| de::Error::custom(format!("{text:?} is not a duration such as 250ms, 30s or 1m")))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    one_duration(deserializer).map(Some)
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// A message with the file, the position in it and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the scenario {} cannot be read: {error}", path.display()))?;
        let mut scenario = Self::parse(&text)
            .map_err(|error| format!("the scenario {} is invalid: {error}", path.display()))?;
        if let (Some(alerts), Some(folder)) = (&mut scenario.thresholds.alerts, path.parent()) {
            *alerts = folder.join(&*alerts);
        }
        Ok(scenario)
    }

    /// Parses the text of a scenario file.
    ///
    /// # Errors
    /// A message with the position and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Number of arrivals of all phases.
    pub fn arrivals(&self) -> u64 {
        self.phases(1.0).map_or(0, |phases| Curve::new(&phases).arrivals())
    }

    /// Rejects files whose plan would take unbounded time or memory to build; [`Plan::faults`] checks
    /// everything else.
    fn check(&self) -> Result<(), String> {
        let items = self.sale.items.unwrap_or(1);
        if items > ITEMS_MAX {
            return Err(format!("sale.items is {items}, must be 1 to {ITEMS_MAX}"));
        }
        let phases = self.phases(1.0)?;
        if phases.len() > PHASES_MAX {
            return Err(format!("[[phase]] makes {} phases, must be 1 to {PHASES_MAX}", phases.len()));
        }
        let arrivals = self.arrivals();
        if arrivals > BUYERS_MAX {
            return Err(format!(
                "all [[phase]] together have {arrivals} orders, must be at most {BUYERS_MAX}"
            ));
        }
        Ok(())
    }

    /// Applies the scenario to a plan; every rate is multiplied by `rate_scale`.
    ///
    /// # Errors
    /// If a phase is invalid.
    pub fn apply(&self, plan: &mut Plan, rate_scale: f64) -> Result<(), String> {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        plan.scenario = Some(self.name.clone());
        set(&mut plan.seed, self.seed.as_ref());
        set(&mut plan.connections, self.connections.as_ref());
        set(&mut plan.workers, self.workers.as_ref());
        set(&mut plan.request_timeout, self.request_timeout.as_ref());
        set(&mut plan.drain_timeout, self.drain_timeout.as_ref());
        set(&mut plan.hot_share, self.sale.hot_share.as_ref());
        set(&mut plan.amount_max, self.sale.amount_max.as_ref());
        set(&mut plan.bots, self.mix.bot_users.as_ref());
        plan.requests_per_connection = self.requests_per_connection;
        plan.arrivals = match self.arrivals {
            Some(ArrivalsWord::Poisson) => Arrivals::Poisson,
            Some(ArrivalsWord::Uniform) | None => Arrivals::Uniform,
        };
        plan.finds_knee = self.find_knee;
        plan.zipf_exponent = self.sale.zipf;
        let stock = self.sale.stock.unwrap_or(2_000);
        let item = |index: usize| Item { id: (101 + index).to_string(), stock };
        plan.items = (0..self.sale.items.unwrap_or(1)).map(item).collect();
        (plan.duplicates_share, plan.reused_share) = (self.mix.duplicates, self.mix.reused);
        (plan.invalid_share, plan.bots_share) = (self.mix.invalid, self.mix.bots);
        plan.retries = self
            .retries
            .as_ref()
            .map(|table| Retries { attempts_max: table.attempts_max, back_off: table.back_off });
        self.thresholds.apply(plan);
        plan.faults = self
            .faults
            .iter()
            .map(|table| Fault {
                at: table.at,
                run: table.run.clone(),
                name: table.name.clone().unwrap_or_else(|| table.run.clone()),
            })
            .collect();
        plan.set_phases(self.phases(rate_scale)?);
        Ok(())
    }

    fn phases(&self, rate_scale: f64) -> Result<Vec<Phase>, String> {
        let mut phases = Vec::new();
        for table in &self.phases {
            phases.extend(table.phases(rate_scale)?);
        }
        if phases.is_empty() { Err("there is no [[phase]]".to_owned()) } else { Ok(phases) }
    }
}

impl ThresholdsTable {
    fn apply(&self, plan: &mut Plan) {
        plan.alerts = self.alerts.clone().or(plan.alerts.take());
        plan.ignored_alerts.extend(self.ignore_alerts.iter().cloned());
        let limits = &mut plan.thresholds;
        limits.p99_ms_max = self.p99_ms.or(limits.p99_ms_max);
        limits.end_to_end_p99_ms_max = self.end_to_end_p99_ms.or(limits.end_to_end_p99_ms_max);
        limits.failed_share_max = self.failed_share.unwrap_or(limits.failed_share_max);
        limits.processing_p99_s_max = self.processing_p99_s.or(limits.processing_p99_s_max);
        limits.dlq_size_max = self.dlq_size.or(limits.dlq_size_max);
        limits.offered_share_min = self.offered_share.or(limits.offered_share_min);
        limits.lateness_p99_ms_max = self.lateness_p99_ms.or(limits.lateness_p99_ms_max);
        limits.busy_share_max = self.busy_share.or(limits.busy_share_max);
    }
}

impl PhaseTable {
    fn phases(&self, scale: f64) -> Result<Vec<Phase>, String> {
        let one = |shape| vec![Phase { name: self.name.clone(), duration: self.duration, shape }];
        let ramp = |from: f64, to: f64| Shape::Ramp { from_per_s: from * scale, to_per_s: to * scale };
        match (self.rate, self.from, self.to, self.half_life, self.step, self.steps) {
            (Some(rate), None, None, None, None, None) => Ok(one(ramp(rate, rate))),
            (None, Some(from), Some(to), None, None, None) => Ok(one(ramp(from, to))),
            (None, Some(from), None, Some(half_life), None, None) => {
                Ok(one(Shape::Decay { from_per_s: from * scale, half_life }))
            }
            (None, Some(from), None, None, Some(step), Some(steps @ 1..=256)) => Ok((0..steps)
                .map(|index| {
                    let rate = (from + step * f64::from(index)) * scale;
                    Phase::constant(format!("{} {rate:.0}/s", self.name), rate, self.duration)
                })
                .collect()),
            _ => Err(format!(
                "phase {:?} must have `rate`, or `from` and `to`, or `from` and `half_life`, or `from`, `step` and \
                 `steps` (1 to 256)",
                self.name
            )),
        }
    }
}
