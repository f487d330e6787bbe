use std::fmt::{Display, Write as _};

/// Size of the drawing; the page scales it to the available width.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 282.0;
/// Margins for the axis labels.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 34.0;

/// Approximate maximum number of ticks on an axis.
const X_TICKS: f64 = 10.0;
const Y_TICKS: f64 = 5.0;

/// Maps a value to a position on an axis.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// Linear, from the first to the second value.
    Linear(f64, f64),
    /// Logarithmic; both values are above zero.
    Log(f64, f64),
}

impl Scale {
    /// A linear axis from `least` (or 0, whichever is lower) to a round number not below `most`.
    pub(super) fn linear(least: f64, most: f64) -> Self {
        let step = round_step((most - least.min(0.0)).max(1e-9) / 4.0);
        Self::Linear((least.min(0.0) / step).floor() * step, (most / step).ceil().max(1.0) * step)
    }

    /// A logarithmic axis over whole decades around the values.
    pub(super) fn log(least: f64, most: f64) -> Self {
        let least = 10_f64.powf(least.max(1e-3).log10().floor());
        let most = 10_f64.powf(most.max(1e-3).log10().ceil());
        Self::Log(least, if most > least { most } else { least * 10.0 })
    }

    /// Position along the axis, 0..=1.
    fn share(self, value: f64) -> f64 {
        match self {
            Self::Linear(from, to) => (value - from) / (to - from),
            Self::Log(from, to) => (value.max(from) / from).log10() / (to / from).log10(),
        }
        .clamp(0.0, 1.0)
    }

    /// Round values along the axis, approximately at most this many.
    fn ticks(self, most: f64) -> Vec<f64> {
        match self {
            Self::Linear(from, to) => {
                let step = round_step((to - from) / most);
                let first = (from / step).ceil() as i64;
                let last = (to / step + 1e-9).floor() as i64;
                (first..=last).map(|index| index as f64 * step).collect()
            }
            Self::Log(from, to) => {
                let decades = (to / from).log10().round() as i32;
                (0..=decades).map(|decade| from * 10_f64.powi(decade)).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= least * (1.0 - 1e-9)).unwrap_or(10.0);
    step * power
}

/// A drawing with two axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame {
    /// Opens the figure and draws the grid. `x_ticks` replaces the default ticks of the x axis.
    pub(super) fn open(
        &self,
        page: &mut String,
        title: &str,
        note: &str,
        x_ticks: Option<&[(f64, &str)]>,
        units: (&str, &str),
    ) {
        let (x_unit, y_unit) = units;
        let _ = write!(
            page,
            "<figure>\n<figcaption><h2>{title}</h2><p class=\"sub\">{note}</p></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n<g class=\"grid\">\n"
        );
        for value in self.y.ticks(Y_TICKS) {
            let y = self.y(value);
            let _ = writeln!(
                page,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" class=\"r\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 7.0,
                y + 4.0,
                short(value)
            );
        }
        let own: Vec<(f64, String)>;
        let ticks: Vec<(f64, &str)> = if let Some(ticks) = x_ticks {
            ticks.to_vec()
        } else {
            own = self.x.ticks(X_TICKS).into_iter().map(|value| (value, short(value))).collect();
            own.iter().map(|(value, text)| (*value, text.as_str())).collect()
        };
        for (value, text) in ticks {
            let x = self.x(value);
            let _ = writeln!(
                page,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" class=\"tick\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" class=\"m\">{text}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 4.0,
                HEIGHT - BOTTOM + 17.0
            );
        }
        let _ = write!(
            page,
            "<text x=\"{}\" y=\"{}\" class=\"r unit\">{x_unit}</text>\
             <text x=\"{}\" y=\"{}\" class=\"unit\">{y_unit}</text>\n</g>\n",
            WIDTH - RIGHT,
            HEIGHT - 4.0,
            LEFT,
            TOP - 10.0
        );
    }

    /// Closes the figure, with a legend of classes and names.
    pub(super) fn close(page: &mut String, legend: &[(String, String)]) {
        page.push_str("</svg>\n<p class=\"legend\">");
        for (class, name) in legend {
            let _ = write!(page, "<span><i class=\"swatch {class}\"></i>{name}</span>");
        }
        page.push_str("</p>\n</figure>\n");
    }

    pub(super) fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// A line through the points; a missing value is a gap.
    pub(super) fn line(
        &self,
        page: &mut String,
        class: &str,
        points: impl Iterator<Item = (f64, Option<f64>)>,
    ) {
        let _ = write!(page, "<path class=\"line {class}\" d=\"");
        let mut is_down = false;
        for (x, y) in points {
            let Some(y) = y else {
                is_down = false;
                continue;
            };
            let _ = write!(page, "{}{:.1} {:.1}", if is_down { 'L' } else { 'M' }, self.x(x), self.y(y));
            if !is_down {
                // Without this, a single point between two gaps would be invisible.
                page.push_str("h0.1");
            }
            is_down = true;
        }
        page.push_str("\"/>\n");
    }

    /// A numbered vertical line with `what` as its tooltip; not drawn beyond the axis.
    pub(super) fn mark(&self, page: &mut String, at: f64, number: usize, what: &impl Display) {
        let Scale::Linear(from, to) = self.x else { return };
        if !(from..=to).contains(&at) {
            return;
        }
        let (x, bottom) = (self.x(at), HEIGHT - BOTTOM);
        let _ = writeln!(
            page,
            "<g class=\"mark\"><title>{number}: {what}</title><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <circle cx=\"{x:.1}\" cy=\"{TOP}\" r=\"8\"/><text x=\"{x:.1}\" y=\"{}\" class=\"m\">{number}</text></g>",
            TOP + 4.0
        );
    }

    /// An invisible column over `from..to` with `text` as its tooltip.
    pub(super) fn hint(&self, page: &mut String, from: f64, to: f64, text: &str) {
        let (x, width) = (self.x(from), self.x(to) - self.x(from));
        let height = HEIGHT - TOP - BOTTOM;
        let _ = writeln!(
            page,
            "<rect class=\"hint\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{text}</title></rect>"
        );
    }
}

/// A short number for an axis or a table: 12k, 3.4, 0.05.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size >= 1e7 => return format!("{:.0}M", value / 1e6),
        _ if size >= 1e6 => return format!("{:.1}M", value / 1e6),
        _ if size >= 1e4 && (value / 1e3).fract() == 0.0 => return format!("{:.0}k", value / 1e3),
        _ if size >= 100.0 || value.fract() == 0.0 => return format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_around_the_values() {
        let ends = |scale| match scale {
            Scale::Linear(from, to) | Scale::Log(from, to) => (from, to),
        };
        assert_eq!(ends(Scale::linear(3.0, 937.0)), (0.0, 1_000.0));
        assert_eq!(ends(Scale::linear(-3.0, 10.0)), (-5.0, 10.0));
        let (from, to) = ends(Scale::log(0.3, 80.0));
        assert!((from - 0.1).abs() < 1e-9 && (to - 100.0).abs() < 1e-9, "{from} to {to}");
        assert_eq!(Scale::linear(0.0, 937.0).ticks(5.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0, "0"), (0.05, "0.05"), (3.4, "3.4"), (250.0, "250"), (20_000.0, "20k")] {
            assert_eq!(short(value), text);
        }
    }
}
