use std::fmt;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Moment, Progress, Stage, words};

/// Progress bars and numbers on stderr, updated in place.
pub struct Live {
    lines: MultiProgress,
    bar: ProgressBar,
    outcomes: ProgressBar,
    latency: ProgressBar,
    /// One per item, created when the first stock sample arrives.
    stock: Vec<ProgressBar>,
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Live").finish_non_exhaustive()
    }
}

const BAR: &str = "{prefix:>9} {bar:40.cyan/black.bright} {msg}";
const TEXT: &str = "{prefix:>9} {msg}";
const STOCK: &str = "{prefix:>9} {bar:40.green/black.bright} {msg}";

impl Live {
    /// An empty view; nothing is drawn before the first update.
    pub fn new() -> Self {
        let lines = MultiProgress::new();
        let line = |template: &str, prefix: &str| {
            let bar = lines.add(ProgressBar::new(0).with_style(style(template)));
            bar.set_prefix(prefix.to_owned());
            bar
        };
        let bar = line(BAR, "sale");
        let outcomes = line(TEXT, "responses");
        let latency = line(TEXT, "latency");
        Self { lines, bar, outcomes, latency, stock: Vec::new() }
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid constant template").progress_chars("━━─")
}

impl Progress for Live {
    fn update(&mut self, moment: &Moment) {
        let (prefix, done, all, text) = match moment.stage {
            Stage::Sending => {
                let done = words::ended(moment);
                let text = format!(
                    "{:.1} s  {done} of {} requests, {:.0}/s",
                    moment.elapsed.as_secs_f64(),
                    moment.planned,
                    moment.rate_per_s
                );
                ("sale", done, moment.planned, text)
            }
            Stage::Draining => {
                let text =
                    format!("{} of {} orders have a final status", moment.orders_done, moment.orders_all);
                ("drain", moment.orders_done, moment.orders_all, text)
            }
            Stage::Auditing => {
                let text = format!("{} of {} orders looked up", moment.orders_done, moment.orders_all);
                ("audit", moment.orders_done, moment.orders_all, text)
            }
        };
        self.bar.set_prefix(prefix);
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(text);
        self.outcomes.set_message(words::outcomes(moment));
        if moment.stage == Stage::Sending {
            self.latency.set_message(words::latency(moment));
        }
        for (index, item) in moment.stock.iter().enumerate() {
            if index == self.stock.len() {
                let bar = ProgressBar::new(item.seeded.max(0) as u64).with_style(style(STOCK));
                // Added before anything is set: a bar without a group would draw itself below the others.
                let bar = self.lines.add(bar);
                bar.set_prefix(item.item_id.chars().take(9).collect::<String>());
                self.stock.push(bar);
            }
            let left = item.left.unwrap_or(0);
            self.stock[index].set_position(left.max(0) as u64);
            self.stock[index].set_message(match item.left {
                Some(left) => format!("{left} of {} left", item.seeded),
                None => "stock unknown".to_owned(),
            });
        }
    }

    /// The lines stay as they are, above the verdict.
    fn done(&mut self) {
        for bar in [&self.bar, &self.outcomes, &self.latency].into_iter().chain(&self.stock) {
            bar.abandon();
        }
    }
}
