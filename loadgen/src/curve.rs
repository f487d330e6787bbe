//! The arrival rate over a run: consecutive phases, each a ramp or a decay.
//!
//! Arrival times are found by inverting the number of arrivals up to a time, which has a closed form for
//! these shapes: nothing is stored, and rounding errors do not accumulate.

use std::time::Duration;

/// One phase of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// For reports.
    pub name: String,
    /// Duration; longer than zero.
    pub duration: Duration,
    /// Rate over time.
    pub shape: Shape,
}

/// Rate over time within a phase, in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Linear from one rate to another; equal rates give a constant rate.
    Ramp {
        /// Rate at the start, 0..=10^7.
        from_per_s: f64,
        /// Rate at the end, 0..=10^7.
        to_per_s: f64,
    },
    /// Halves in every half-life.
    Decay {
        /// Rate at the start.
        from_per_s: f64,
        /// Time in which the rate halves.
        half_life: Duration,
    },
}

impl Phase {
    /// A constant rate.
    pub fn constant(name: impl Into<String>, rate_per_s: f64, duration: Duration) -> Self {
        let shape = Shape::Ramp { from_per_s: rate_per_s, to_per_s: rate_per_s };
        Self { name: name.into(), duration, shape }
    }

    /// Number of arrivals in the phase.
    pub fn arrivals(&self) -> f64 {
        self.arrivals_within(self.duration.as_secs_f64())
    }

    fn arrivals_within(&self, seconds: f64) -> f64 {
        match self.shape {
            Shape::Ramp { from_per_s, to_per_s } => {
                let rise = (to_per_s - from_per_s) / self.duration.as_secs_f64();
                from_per_s * seconds + rise * seconds * seconds / 2.0
            }
            Shape::Decay { from_per_s, half_life } => {
                let scale_s = half_life.as_secs_f64() / std::f64::consts::LN_2;
                from_per_s * scale_s * (1.0 - (-seconds / scale_s).exp())
            }
        }
    }

    /// Seconds from the start of the phase until this many arrivals have happened.
    fn moment_s(&self, arrivals: f64) -> f64 {
        let seconds = match self.shape {
            Shape::Ramp { from_per_s, to_per_s } => {
                let rise = (to_per_s - from_per_s) / self.duration.as_secs_f64();
                // The root of rise/2 t² + from t = n in the form without cancellation.
                let root = (from_per_s * from_per_s + 2.0 * rise * arrivals).max(0.0).sqrt();
                if arrivals <= 0.0 { 0.0 } else { 2.0 * arrivals / (from_per_s + root) }
            }
            Shape::Decay { from_per_s, half_life } => {
                let scale_s = half_life.as_secs_f64() / std::f64::consts::LN_2;
                -scale_s * (-arrivals / (from_per_s * scale_s)).ln_1p()
            }
        };
        if seconds.is_finite() {
            seconds.min(self.duration.as_secs_f64())
        } else {
            self.duration.as_secs_f64()
        }
    }
}

/// All phases of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
struct Piece {
    phase: Phase,
    begins_s: f64,
    arrivals_before: f64,
}

impl Curve {
    /// A curve of these phases in this order.
    pub fn new(phases: &[Phase]) -> Self {
        let (mut begins_s, mut arrivals_before) = (0.0, 0.0);
        let piece = |phase: &Phase| {
            let piece = Piece { phase: phase.clone(), begins_s, arrivals_before };
            begins_s += phase.duration.as_secs_f64();
            arrivals_before += phase.arrivals();
            piece
        };
        Self { pieces: phases.iter().map(piece).collect() }
    }

    /// Arrivals of the whole run, rounded down.
    pub fn arrivals(&self) -> u64 {
        // The extra millionth makes 10 s at 100/s a thousand, however the sum was rounded.
        self.pieces.last().map_or(0, |last| (last.arrivals_before + last.phase.arrivals() + 1e-6) as u64)
    }

    /// Length of the whole run.
    pub fn duration(&self) -> Duration {
        self.pieces.iter().map(|piece| piece.phase.duration).sum()
    }

    /// Time of this arrival in nanoseconds from the start. `hint` is the phase of the last call: calls with
    /// rising numbers visit each phase once.
    pub(crate) fn at_ns(&self, arrivals: f64, hint: &mut usize) -> u64 {
        while self.pieces.get(*hint + 1).is_some_and(|next| next.arrivals_before <= arrivals) {
            *hint += 1;
        }
        let Some(piece) = self.pieces.get(*hint) else { return 0 };
        let seconds = piece.begins_s + piece.phase.moment_s(arrivals - piece.arrivals_before);
        (seconds * 1e9).round() as u64
    }

    /// The phase at this time; the last phase for times after the end.
    pub(crate) fn phase_at(&self, at_ns: u64) -> usize {
        let at_s = at_ns as f64 / 1e9;
        self.pieces.partition_point(|piece| piece.begins_s <= at_s).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        Curve::new(&[
            Phase::constant("flat", 100.0, Duration::from_secs(2)),
            Phase {
                name: "up".into(),
                duration: Duration::from_secs(4),
                shape: Shape::Ramp { from_per_s: 0.0, to_per_s: 200.0 },
            },
            Phase {
                name: "down".into(),
                duration: Duration::from_secs(10),
                shape: Shape::Decay { from_per_s: 200.0, half_life: Duration::from_secs(1) },
            },
        ])
    }

    #[test]
    fn arrival_times_invert_the_arrival_count() {
        let curve = curve();
        let mut hint = 0;
        let mut last_ns = 0;
        for arrival in 0..curve.arrivals() {
            let at_ns = curve.at_ns(arrival as f64, &mut hint);
            assert!(at_ns >= last_ns, "arrival {arrival}");
            last_ns = at_ns;
            let piece = &curve.pieces[hint];
            let again =
                piece.arrivals_before + piece.phase.arrivals_within(at_ns as f64 / 1e9 - piece.begins_s);
            assert!((again - arrival as f64).abs() < 1e-3, "arrival {arrival} at {at_ns} ns is {again}");
        }
        assert_eq!(curve.duration(), Duration::from_secs(16));
        // 200 flat, 400 on the ramp, 200/ln 2 × (1 - 2^-10) in the decay.
        assert_eq!(curve.arrivals(), 200 + 400 + 288);
    }

    #[test]
    fn each_time_belongs_to_one_phase() {
        let curve = curve();
        let seconds = [0.0, 1.999, 2.0, 5.999, 6.0, 100.0];
        assert_eq!(seconds.map(|s: f64| curve.phase_at((s * 1e9) as u64)), [0, 0, 1, 1, 2, 2]);
    }
}
