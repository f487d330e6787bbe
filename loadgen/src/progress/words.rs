use std::fmt::Write as _;

use report::Outcome;

use super::{Moment, Stage};

/// An update as one line.
pub(super) fn line(moment: &Moment) -> String {
    let elapsed_s = moment.elapsed.as_secs_f64();
    let stock = if moment.stock.is_empty() { String::new() } else { format!(", stock {}", stock(moment)) };
    match moment.stage {
        Stage::Sending => format!(
            "{elapsed_s:6.1}s  {} of {} requests, {:.0}/s, {}, {}{stock}",
            ended(moment),
            moment.planned,
            moment.rate_per_s,
            outcomes(moment),
            latency(moment),
        ),
        Stage::Draining => {
            format!(
                "        draining: {} of {} orders have a final status{stock}",
                moment.orders_done, moment.orders_all
            )
        }
        Stage::Auditing => {
            format!(
                "        auditing: {} of {} orders looked up{stock}",
                moment.orders_done, moment.orders_all
            )
        }
    }
}

/// Number of finished requests.
pub(super) fn ended(moment: &Moment) -> u64 {
    moment.outcomes.iter().sum()
}

/// `202 1500, 410 20`.
pub(super) fn outcomes(moment: &Moment) -> String {
    let some: Vec<String> = Outcome::ALL
        .into_iter()
        .zip(moment.outcomes)
        .filter(|&(_, count)| count > 0)
        .map(|(outcome, count)| format!("{outcome} {count}"))
        .collect();
    if some.is_empty() { "no response yet".to_owned() } else { some.join(", ") }
}

/// `p50 1.2 ms, p99 8.0 ms, 12 in flight`, and the wait of the next arrival for a connection, if any.
pub(super) fn latency(moment: &Moment) -> String {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let mut text = format!(
        "p50 {} ms, p99 {} ms, p99.9 {} ms, {} in flight",
        ms(moment.p50_ms),
        ms(moment.p99_ms),
        ms(moment.p999_ms),
        moment.in_flight
    );
    if moment.waiting_ms > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ", no free connection for {} ms", moment.waiting_ms);
    }
    text
}

/// `101: 1200 of 2000`.
pub(super) fn stock(moment: &Moment) -> String {
    let item = |item: &super::StockNow| {
        let left = item.left.map_or_else(|| "unknown".to_owned(), |left| left.to_string());
        format!("{}: {left} of {}", item.item_id, item.seeded)
    };
    moment.stock.iter().map(item).collect::<Vec<_>>().join(", ")
}
