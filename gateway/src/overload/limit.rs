//! An adaptive concurrency limit: how many orders may be in flight so that their delay stays below the target.
//!
//! Little's law gives the limit: throughput times planned delay. Answers are counted in windows. While orders take longer
//! than planned, the limit is lowered to the throughput of the last windows times the planned delay, and while most of it
//! is in use it is raised to the same product. The throughput cannot exceed the capacity, so the limit does not overshoot,
//! and it does not depend on the limit while orders queue, so the limit does not oscillate. Planned is a part of the target.
//! The rest is for dependencies that become slower while orders wait: Redis needs 2 to 2.7 times as long while it
//! grows its tables, and the 99th percentile is to stay below twice the target even then.
//!
//! Netflix's concurrency-limits and Envoy's adaptive concurrency filter multiply the limit by a gradient of delays instead.
//! Measured here, that swung by a factor of three: a window still contains orders admitted under the limit before. Two
//! more differences from them:
//!
//! - the target is configured instead of a multiple of the smallest delay seen, because Redis flushes and Kafka batches
//!   need many orders in flight to be efficient: the smallest delay belongs to a fraction of the throughput;
//! - the smallest delay is still needed where the dependencies by themselves take longer than the target (a Kafka in
//!   three zones, a slow disk): it is learned when the limit has fallen to its lowest value and the delay is still
//!   above the target, and the target is then twice that delay.
//!
//! While nothing is refused, the limit is lowered only when two windows in a row took longer than the target and the queue does
//! not drain by itself: a burst, or a pause of a dependency below capacity, sheds nothing.
//!
//! A pure state machine: no clock, no IO. One a core; nothing is shared.

use std::time::{Duration, Instant};

/// Part of the target that orders are planned to take.
const PLANNED: f64 = 0.6;
/// Length of a window. Halving it doubles the noise of the throughput; doubling it doubles the time the limit needs to
/// react.
const WINDOW: Duration = Duration::from_millis(50);
/// Answers that a window has at least: at low rates it lasts longer.
const ANSWERS_MIN: u64 = 16;
/// Weight of the last window in the throughput: a window in which the answers of a pause arrive together counts for
/// less, and a change of the capacity is followed within ten windows.
const RATE_WEIGHT: f64 = 0.25;
/// The lowest limit: a core always serves somebody and measures, and nobody on that many connections (a proxy's pool) is shed
/// whatever happens. Below 64 / 15 ms = 4,300 orders a second and core, delays are longer than planned at this limit;
/// halving it would shed a drill of 1,000 orders/s over 64 connections while a freshly started broker is slow.
const LIMIT_MIN: f64 = 64.0;
/// So many windows in a row must be late at the lowest limit before that is the delay of the dependencies: fewer are the
/// rest of a pause.
const LOWEST_WINDOWS: u32 = 4;
/// What the limit starts from and returns to when all is well, per core: at 20,000 orders a second and core, this
/// many are answered within 50 ms. A short pause of a dependency below capacity therefore sheds nothing.
const LIMIT_REST: f64 = 1024.0;
/// It returns there by this factor a window.
const REST_FACTOR: f64 = 1.25;
/// Once an overload has shown the capacity, it returns to no more than is answered in this many planned delays.
const REST_PLANS: f64 = 2.0;
/// Below this part of the planned delay, what fills the limit is a burst and no queue.
const IDLE: f64 = 0.5;
/// In one window the limit grows at most by this factor.
const GROWTH_MAX: f64 = 2.0;
/// The limit grows above its value at rest only when this part of it was in use.
const USED_MIN: f64 = 0.8;
/// Below this part of what was in flight at most, the queue is being worked off by itself.
const DRAINING: f64 = 0.5;
/// The time in the socket counts for at most this part of the planned delay: an event loop that is busy with refusals must not
/// stop accepting.
const READ_SHARE_MAX: f64 = 0.5;
/// Dependencies that need longer than planned by themselves are granted this multiple of what they need.
const BASE_FACTOR: f64 = 2.0;
/// After this long the delay of the dependencies, and the capacity, are measured anew (Envoy's default interval is the
/// same).
const MEASUREMENT_AGE_MAX: Duration = Duration::from_mins(1);

/// See the module documentation.
#[derive(Debug)]
pub struct Limit {
    planned_us: f64,
    allowed_max: f64,
    /// Orders that may be in flight.
    allowed: f64,
    /// What the dependencies need by themselves, in microseconds, and when that was measured.
    base: Option<(f64, Instant)>,
    /// Answers a microsecond, over the last windows.
    rate: Option<f64>,
    /// Answers a microsecond while orders were refused, and when that was measured.
    capacity: Option<(f64, Instant)>,
    window: Window,
    /// Of the last whole window, in microseconds.
    delay_us: f64,
    /// In the last whole window orders were late.
    was_late: bool,
    /// And others were refused.
    was_refusing: bool,
    /// Late windows in a row in which no more than the lowest limit were in flight.
    lowest_windows: u32,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    answers: u64,
    answers_us: u64,
    /// An order failed because something took too long.
    has_failures: bool,
    has_refusals: bool,
    reads: u64,
    reads_us: u64,
    in_flight_max: usize,
    in_flight_last: usize,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self {
            began,
            answers: 0,
            answers_us: 0,
            has_failures: false,
            has_refusals: false,
            reads: 0,
            reads_us: 0,
            in_flight_max: 0,
            in_flight_last: 0,
        }
    }

    /// Mean time from the read of the last byte to the answer.
    fn answer_us(&self) -> f64 {
        (self.answers_us as f64 / self.answers.max(1) as f64).max(1.0)
    }

    /// Mean time that bytes waited in their socket.
    fn read_us(&self) -> f64 {
        self.reads_us as f64 / self.reads.max(1) as f64
    }

    fn is_draining(&self) -> bool {
        (self.in_flight_last as f64) < self.in_flight_max as f64 * DRAINING
    }
}

impl Limit {
    /// Keeps the delay at `target` with never more than `in_flight_max` orders.
    pub fn new(target: Duration, in_flight_max: usize, now: Instant) -> Self {
        let allowed_max = in_flight_max as f64;
        Self {
            planned_us: target.as_micros() as f64 * PLANNED,
            allowed_max,
            allowed: LIMIT_REST.min(allowed_max),
            base: None,
            rate: None,
            capacity: None,
            window: Window::new(now),
            delay_us: 0.0,
            was_late: false,
            was_refusing: false,
            lowest_windows: 0,
        }
    }

    /// Whether one more order may enter when `in_flight` are there.
    pub fn admits(&mut self, in_flight: usize) -> bool {
        let is_admitted = in_flight < self.allowed as usize;
        self.window.has_refusals |= !is_admitted;
        self.window.in_flight_last = in_flight;
        self.window.in_flight_max = self.window.in_flight_max.max(in_flight + usize::from(is_admitted));
        is_admitted
    }

    /// An order's bytes had been in its socket for `delay` when they were read; any share of the orders will do.
    pub fn read(&mut self, delay: Duration) {
        self.window.reads += 1;
        self.window.reads_us += delay.as_micros() as u64;
    }

    /// An order was acknowledged `delay` after it was read.
    pub fn succeeded(&mut self, delay: Duration, now: Instant) {
        self.add(delay, now);
    }

    /// A dependency failed an order `delay` after it was read. A quick failure says nothing about the load.
    pub fn failed(&mut self, delay: Duration, now: Instant) {
        if delay.as_micros() as f64 > self.setpoint_us() {
            self.window.has_failures = true;
            self.add(delay, now);
        }
    }

    /// Orders that may be in flight.
    pub fn limit(&self) -> usize {
        self.allowed as usize
    }

    /// Mean delay of the last whole window.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us as u64)
    }

    fn add(&mut self, delay: Duration, now: Instant) {
        self.window.answers += 1;
        self.window.answers_us += delay.as_micros() as u64;
        if self.window.answers >= ANSWERS_MIN && now.saturating_duration_since(self.window.began) >= WINDOW {
            self.adjust(now);
        }
    }

    fn setpoint_us(&self) -> f64 {
        self.base.map_or(self.planned_us, |(base_us, _)| self.planned_us.max(base_us * BASE_FACTOR))
    }

    fn adjust(&mut self, now: Instant) {
        let window = std::mem::replace(&mut self.window, Window::new(now));
        self.learn_base(&window, now);
        let setpoint_us = self.setpoint_us();
        let read_us = window.read_us().min(setpoint_us * READ_SHARE_MAX);
        self.delay_us = window.answer_us() + read_us;
        let window_us = now.saturating_duration_since(window.began).as_micros() as f64;
        let last = window.answers as f64 / window_us.max(1.0);
        let rate = self.rate.map_or(last, |rate| rate + RATE_WEIGHT * (last - rate));
        self.rate = Some(rate);
        let fitting = rate * (setpoint_us - read_us);
        let is_late = self.delay_us > setpoint_us;
        let is_refusing = is_late && window.has_refusals;
        let was_late = std::mem::replace(&mut self.was_late, is_late);
        let was_refusing = std::mem::replace(&mut self.was_refusing, is_refusing);
        if is_late {
            // The throughput of an outage or of a pause is not a capacity.
            let is_measured =
                was_refusing && !window.has_failures && window_us < 2.0 * WINDOW.as_micros() as f64;
            if is_refusing && is_measured {
                self.capacity = Some((rate.max(last), now));
            }
            if is_refusing || (was_late && self.is_queue(&window)) {
                self.allowed = self.allowed.min(fitting);
            }
        } else {
            let rest = self.rest(now);
            let is_used = window.in_flight_max as f64 >= self.allowed * USED_MIN;
            let grown = if is_used { fitting.min(self.allowed * GROWTH_MAX) } else { 0.0 };
            // Short bursts fill the limit although their throughput over a window is small.
            let is_idle = !is_used || self.delay_us < setpoint_us * IDLE;
            let rest = if is_idle { rest } else { rest / REST_PLANS };
            self.allowed = self.allowed.max(grown).max((self.allowed * REST_FACTOR).min(rest));
        }
        self.allowed = self.allowed.clamp(LIMIT_MIN.min(self.allowed_max), self.allowed_max);
    }

    /// While nothing is refused: what was in flight waited for each other, and will not be worked off by itself. A burst, or
    /// dependencies that take longer than planned and less than the target, are no queue.
    fn is_queue(&self, window: &Window) -> bool {
        let target_us = self.setpoint_us().max(self.planned_us / PLANNED);
        self.delay_us > target_us && window.in_flight_max as f64 > LIMIT_MIN && !window.is_draining()
    }

    /// What the limit returns to when nothing is late and little is in flight.
    fn rest(&mut self, now: Instant) -> f64 {
        self.capacity =
            self.capacity.filter(|&(_, at)| now.saturating_duration_since(at) < MEASUREMENT_AGE_MAX);
        let setpoint_us = self.setpoint_us();
        self.capacity.map_or(LIMIT_REST, |(rate, _)| LIMIT_REST.min(rate * setpoint_us * REST_PLANS))
    }

    fn learn_base(&mut self, window: &Window, now: Instant) {
        if self.base.is_some_and(|(_, at)| now.saturating_duration_since(at) >= MEASUREMENT_AGE_MAX) {
            self.base = None;
        }
        let answer_us = window.answer_us();
        let setpoint_us = self.setpoint_us();
        let is_late = answer_us + window.read_us().min(setpoint_us * READ_SHARE_MAX) > setpoint_us;
        let is_lowest = self.allowed <= LIMIT_MIN && window.in_flight_max as f64 <= LIMIT_MIN;
        self.lowest_windows = if is_lowest && is_late { self.lowest_windows + 1 } else { 0 };
        // A delay with failures is that of a time-out, not of a dependency that works.
        if self.lowest_windows >= LOWEST_WINDOWS && !window.has_failures {
            self.base = Some((answer_us, now));
        } else if let Some((base_us, _)) = &mut self.base {
            *base_us = base_us.min(answer_us);
        }
    }
}

#[cfg(test)]
mod tests;
