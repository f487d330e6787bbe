//! CoDel's rule (RFC 8289) at the entrance: when the smallest delay over an interval stayed above the target, one order
//! is refused after ever shorter pauses, the interval over the square root of their number, until a delay is below it.
//!
//! A pure state machine: no clock, no IO. One a core; nothing is shared.

use std::time::{Duration, Instant};

/// See the module documentation.
#[derive(Debug)]
pub struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the delay will have been above the target for a whole interval; `None` while it is below.
    first_above: Option<Instant>,
    /// When the next order is refused; `None` outside of an episode.
    drop_next: Option<Instant>,
    /// Orders refused in this episode.
    count: u32,
    /// And in the last one, and when it ended.
    last: Option<(u32, Instant)>,
    delay: Duration,
}

impl CoDel {
    /// Keeps the smallest delay of each `interval` at `target`.
    pub fn new(target: Duration, interval: Duration) -> Self {
        let delay = Duration::ZERO;
        Self { target, interval, first_above: None, drop_next: None, count: 0, last: None, delay }
    }

    /// Whether one more order may enter.
    pub fn admits(&mut self, now: Instant) -> bool {
        let Some(drop_next) = self.drop_next.filter(|&at| now >= at) else { return true };
        self.count += 1;
        self.drop_next = Some(drop_next + self.pause());
        false
    }

    /// An order was answered after `delay`.
    pub fn answered(&mut self, delay: Duration, now: Instant) {
        self.delay = delay;
        if delay < self.target {
            self.first_above = None;
            if self.drop_next.take().is_some() {
                self.last = Some((self.count, now));
            }
            return;
        }
        let first_above = *self.first_above.get_or_insert(now + self.interval);
        if now >= first_above && self.drop_next.is_none() {
            // RFC 8289, 5.4: an episode soon after the last one goes on with its rate.
            let goes_on = |&(_, ended): &(u32, Instant)| now.saturating_duration_since(ended) < self.interval * 16;
            self.count = self.last.filter(goes_on).map_or(1, |(count, _)| count.saturating_sub(2).max(1));
            self.drop_next = Some(now);
        }
    }

    /// The last delay.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    fn pause(&self) -> Duration {
        self.interval.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);
    const MS: Duration = Duration::from_millis(1);

    /// Answers with `delay` each millisecond for `ms`; orders refused.
    fn run(rule: &mut CoDel, now: &mut Instant, ms: u32, delay: Duration) -> u32 {
        let mut refused = 0;
        for _ in 0..ms {
            *now += MS;
            refused += u32::from(!rule.admits(*now));
            rule.answered(delay, *now);
        }
        refused
    }

    #[test]
    fn a_burst_shorter_than_the_interval_is_let_through() {
        let (mut rule, mut now) = (CoDel::new(TARGET, INTERVAL), Instant::now());
        assert_eq!(run(&mut rule, &mut now, 99, TARGET * 4), 0);
        assert_eq!(run(&mut rule, &mut now, 1, TARGET / 2), 0);
        assert_eq!(run(&mut rule, &mut now, 99, TARGET * 4), 0);
    }

    #[test]
    fn refusals_come_closer_by_the_square_root_of_their_number() {
        let (mut rule, mut now) = (CoDel::new(TARGET, INTERVAL), Instant::now());
        run(&mut rule, &mut now, 101, TARGET * 4);
        // n refusals take the sum of interval / sqrt(k), about 2 * interval * (sqrt(n) - 1).
        let refused = run(&mut rule, &mut now, 1000, TARGET * 4);
        assert!((35..=41).contains(&refused), "{refused}");
        let refused = run(&mut rule, &mut now, 1000, TARGET * 4);
        assert!((80..=95).contains(&refused), "{refused}");
    }

    #[test]
    fn it_ends_with_the_first_delay_below_the_target_and_then_goes_on_where_it_was() {
        let (mut rule, mut now) = (CoDel::new(TARGET, INTERVAL), Instant::now());
        run(&mut rule, &mut now, 1000, TARGET * 4);
        assert_eq!(run(&mut rule, &mut now, 1, TARGET / 2) + run(&mut rule, &mut now, 50, TARGET / 2), 0);
        run(&mut rule, &mut now, 101, TARGET * 4);
        assert!(run(&mut rule, &mut now, 100, TARGET * 4) > 3, "not from the beginning");
    }
}
