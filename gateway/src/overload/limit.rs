//! An adaptive concurrency limit: how many orders may be in flight so that their delay stays below the target.
//!
//! Little's law gives the limit: throughput times planned delay. Responses are counted in windows. While orders take
//! longer than planned, the limit is lowered to the throughput of the last windows times the planned delay; while most of
//! the limit is in use, it is raised to the same product. The throughput cannot exceed the capacity, so the limit does not
//! overshoot. While orders queue, the throughput does not depend on the limit, so the limit does not oscillate. The planned
//! delay is a fraction of the target. The remainder is for dependencies that become slower while orders wait: Redis takes 2
//! to 2.7 times as long while it resizes its tables, and the 99th percentile must stay below twice the target even then.
//!
//! Netflix's concurrency-limits and Envoy's adaptive concurrency filter multiply the limit by a gradient of delays instead.
//! Measured here, that limit swung by a factor of three, because a window still contains orders admitted under the previous
//! limit. There are two more differences:
//!
//! - the target is configured instead of a multiple of the smallest delay seen, because Redis flushes and Kafka batches
//!   need many orders in flight to be efficient: the smallest delay occurs at a fraction of the throughput;
//! - the smallest delay is still needed where the dependencies alone take longer than the target (a Kafka in three zones, a
//!   slow disk): it is learned when the limit has fallen to its minimum and the delay is still above the target. The
//!   target is then twice that delay.
//!
//! While no order is rejected, the limit is lowered only when two consecutive windows took longer than the target and the
//! queue does not drain on its own: a burst, or a pause of a dependency below capacity, sheds nothing.
//!
//! A pure state machine without clock or IO. One per core; nothing is shared.

use std::time::{Duration, Instant};

/// Planned delay as a fraction of the target.
const PLANNED: f64 = 0.6;
/// Minimum length of a window. Halving it doubles the noise of the throughput; doubling it doubles the reaction time of
/// the limit.
const WINDOW: Duration = Duration::from_millis(50);
/// Minimum responses in a window: at low rates a window lasts longer.
const ANSWERS_MIN: u64 = 16;
/// Weight of the last window in the throughput: limits the effect of a window in which the responses of a pause arrive
/// together, and still follows a change of capacity within ten windows.
const RATE_WEIGHT: f64 = 0.25;
/// The minimum limit: a core always serves some orders and can measure, and clients with at most this many connections in
/// total (a proxy's pool) are never shed. Below 64 / 15 ms = 4,300 orders a second and core, delays at this limit are
/// longer than planned. Halving it would shed orders in a drill of 1,000 orders/s over 64 connections while a freshly
/// started broker is slow.
const LIMIT_MIN: f64 = 64.0;
/// This many consecutive windows must be late at the minimum limit before their delay is taken as the delay of the
/// dependencies: fewer may be the tail of a pause.
const LOWEST_WINDOWS: u32 = 4;
/// The resting limit, per core: the limit starts here and returns here when nothing is late. At 20,000 orders a second
/// and core, this many are answered within 50 ms. A short pause of a dependency below capacity therefore sheds nothing.
const LIMIT_REST: f64 = 1024.0;
/// Growth factor per window while the limit returns to rest.
const REST_FACTOR: f64 = 1.25;
/// Once an overload has shown the capacity, the resting limit is what can be answered in this many planned delays.
const REST_PLANS: f64 = 2.0;
/// Below this fraction of the planned delay, a full limit is caused by a burst, not by a queue.
const IDLE: f64 = 0.5;
/// Maximum growth factor of the limit per window.
const GROWTH_MAX: f64 = 2.0;
/// The limit grows above its resting value only when this fraction of it was in use.
const USED_MIN: f64 = 0.8;
/// Below this fraction of the window's maximum in flight, the queue is draining on its own.
const DRAINING: f64 = 0.5;
/// The time in the socket counts for at most this fraction of the planned delay: an event loop that is busy rejecting
/// orders must still accept some.
const READ_SHARE_MAX: f64 = 0.5;
/// Dependencies that alone take longer than planned are allowed this multiple of their delay.
const BASE_FACTOR: f64 = 2.0;
/// After this time the delay of the dependencies and the capacity are measured again (same as Envoy's default interval).
const MEASUREMENT_AGE_MAX: Duration = Duration::from_mins(1);

/// The adaptive limit of one core.
#[derive(Debug)]
pub struct Limit {
    planned_us: f64,
    allowed_max: f64,
    /// Orders that may be in flight.
    allowed: f64,
    /// Delay of the dependencies alone, in microseconds, and when it was measured.
    base: Option<(f64, Instant)>,
    /// Responses per microsecond, averaged over the last windows.
    rate: Option<f64>,
    /// Responses per microsecond while orders were rejected, and when that was measured.
    capacity: Option<(f64, Instant)>,
    window: Window,
    /// Mean delay of the last complete window, in microseconds.
    delay_us: f64,
    /// Orders were late in the last complete window.
    was_late: bool,
    /// Orders were late and others rejected in the last complete window.
    was_refusing: bool,
    /// Consecutive late windows with no more than the minimum limit in flight.
    lowest_windows: u32,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    answers: u64,
    answers_us: u64,
    /// An order failed after a long delay.
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

    /// Mean time from reading the last byte to the response.
    fn answer_us(&self) -> f64 {
        (self.answers_us as f64 / self.answers.max(1) as f64).max(1.0)
    }

    /// Mean time that bytes waited in the socket.
    fn read_us(&self) -> f64 {
        self.reads_us as f64 / self.reads.max(1) as f64
    }

    fn is_draining(&self) -> bool {
        (self.in_flight_last as f64) < self.in_flight_max as f64 * DRAINING
    }
}

impl Limit {
    /// Keeps the delay at `target` with at most `in_flight_max` orders.
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

    /// Records that an order's bytes had been in the socket for `delay` when they were read. A sample of the orders suffices.
    pub fn read(&mut self, delay: Duration) {
        self.window.reads += 1;
        self.window.reads_us += delay.as_micros() as u64;
    }

    /// Records an order acknowledged `delay` after it was read.
    pub fn succeeded(&mut self, delay: Duration, now: Instant) {
        self.add(delay, now);
    }

    /// Records an order that a dependency failed `delay` after it was read. A quick failure indicates nothing about the load.
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

    /// Mean delay of the last complete window.
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
            // The throughput during an outage or a pause is not the capacity.
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
            // Short bursts fill the limit although their throughput per window is small.
            let is_idle = !is_used || self.delay_us < setpoint_us * IDLE;
            let rest = if is_idle { rest } else { rest / REST_PLANS };
            self.allowed = self.allowed.max(grown).max((self.allowed * REST_FACTOR).min(rest));
        }
        self.allowed = self.allowed.clamp(LIMIT_MIN.min(self.allowed_max), self.allowed_max);
    }

    /// While no order is rejected: whether the orders in flight form a queue that does not drain on its own. A burst is not
    /// a queue, nor are dependencies that take longer than planned but less than the target.
    fn is_queue(&self, window: &Window) -> bool {
        let target_us = self.setpoint_us().max(self.planned_us / PLANNED);
        self.delay_us > target_us && window.in_flight_max as f64 > LIMIT_MIN && !window.is_draining()
    }

    /// The resting limit, to which the limit returns when nothing is late and little is in flight.
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
        // A delay with failures is that of a timeout, not of a working dependency.
        if self.lowest_windows >= LOWEST_WINDOWS && !window.has_failures {
            self.base = Some((answer_us, now));
        } else if let Some((base_us, _)) = &mut self.base {
            *base_us = base_us.min(answer_us);
        }
    }
}

#[cfg(test)]
mod tests;
