//! The report as one HTML page without scripts, fonts or external resources, readable in light and dark mode.

use std::fmt::Write as _;

use crate::check::{CheckState, Verdict};
use crate::ledger_report::{ItemReport, LedgerReport};
use crate::markup::entity;
use crate::outcome::Outcome;
use crate::quantiles::Quantiles;
use crate::report::Report;
use crate::table;

/// The plots.
mod charts;

/// Axes and scales, in SVG.
mod plot;

const STYLE: &str = include_str!("html/page.css");

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        let mut page = String::with_capacity(128 * 1024);
        let run = Escaped(&self.run);
        // Writing to a string cannot fail; the same holds below.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Sale {run}: {}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            word(self.verdict)
        );
        self.header(&mut page);
        self.tiles(&mut page);
        self.checks(&mut page);
        page.push_str("<section class=\"plots\">\n");
        charts::outcomes(&mut page, &self.series, &self.faults);
        charts::latency(&mut page, &self.series, &self.faults);
        charts::curve(&mut page, &self.curve);
        charts::stock(&mut page, &self.series, &self.faults);
        charts::lag(&mut page, &self.series, &self.faults);
        page.push_str("</section>\n");
        charts::fault_list(&mut page, &self.faults);
        self.phases(&mut page);
        self.answers(&mut page);
        if let Some(ledger) = &self.ledger {
            orders(&mut page, ledger);
        }
        self.generator(&mut page);
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    fn header(&self, page: &mut String) {
        let _ = write!(
            page,
            "<header>\n<p class=\"badge {}\">{}</p>\n<h1>Sale {}</h1>\n<p class=\"sub\">{}</p>\n\
             <p class=\"sub\">{} at {}, {} arrivals, {} connections, seed {}{}</p>\n</header>\n",
            class(self.verdict),
            word(self.verdict),
            Escaped(&self.run),
            Escaped(self.verdict.sentence().split_once(": ").map_or("", |(_, reason)| reason)),
            Escaped(&self.plan.target),
            Escaped(&self.started_at),
            self.plan.arrivals,
            self.plan.connections,
            self.plan.seed,
            if self.plan.shard.is_whole() { String::new() } else { format!(", shard {}", self.plan.shard) }
        );
    }

    fn tiles(&self, page: &mut String) {
        let accepted = self.outcomes.get(Outcome::Accepted.name());
        let count = accepted.map_or(0, |outcome| outcome.count);
        let latency = accepted.map(|outcome| outcome.latency_ms);
        let ms = |pick: fn(Quantiles) -> f64| {
            latency.map_or_else(|| "–".to_owned(), |latency| format!("{} ms", plot::short(pick(latency))))
        };
        let asked = if self.asked_rate > 0.0 {
            format!("target {}, offered {}", thousands(self.asked_rate), thousands(self.offered_rate))
        } else {
            "closed loop".to_owned()
        };
        page.push_str("<section class=\"tiles\">\n");
        let mut tile = |name: &str, value: &str, note: &str| {
            let _ = writeln!(page, "<div><h2>{name}</h2><p>{value}</p><small>{note}</small></div>");
        };
        tile("Requests", &thousands(self.requests as f64), &format!("in {:.1} s", self.duration_s));
        tile("Responses per second", &thousands(self.achieved_rate), &asked);
        let accepted_share = accepted.map_or(0.0, |outcome| outcome.share * 100.0);
        tile("Accepted (202)", &thousands(count as f64), &format!("{accepted_share:.1} % of all requests"));
        tile("Median latency", &ms(|latency| latency.p50), "202, from the intended time");
        tile(
            "99th percentile",
            &ms(|latency| latency.p99),
            &format!("largest {}", ms(|latency| latency.max)),
        );
        if let Some(ends) = self.end_to_end.as_ref().filter(|ends| ends.count > 0) {
            let latency = ends.latency_ms;
            let note = format!("99th percentile {} ms, of one in {}", plot::short(latency.p99), ends.one_in);
            tile("Median to final status", &format!("{} ms", plot::short(latency.p50)), &note);
        }
        if let Some(ledger) = self.ledger.as_ref().filter(|ledger| !ledger.items.is_empty()) {
            let sold: u64 = ledger.items.iter().map(|item| item.sold).sum();
            let on_sale: i64 = ledger.items.iter().map(ItemReport::on_sale).sum();
            let left: i64 = ledger.items.iter().filter_map(|item| item.left).sum();
            let note = format!("of {}, {} left", thousands(on_sale as f64), thousands(left as f64));
            tile("Units sold", &thousands(sold as f64), &note);
        }
        page.push_str("</section>\n");
    }

    fn phases(&self, page: &mut String) {
        if self.phases.is_empty() {
            return;
        }
        page.push_str(
            "<section>\n<h2>Phases</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>phase</th>\
             <th class=\"n\">start, s</th><th class=\"n\">duration, s</th><th class=\"n\">target/s</th>\
             <th class=\"n\">answered/s</th><th class=\"n\">p50 ms</th><th class=\"n\">p99 ms</th></tr></thead>\n<tbody>\n",
        );
        let ms = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), plot::short);
        for phase in &self.phases {
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Escaped(&phase.name),
                phase.begins_s,
                phase.duration_s,
                thousands(phase.asked_rate.round()),
                thousands(phase.answered_rate.round()),
                ms(phase.p50_ms),
                ms(phase.p99_ms)
            );
        }
        page.push_str("</tbody></table></div>\n");
        if let Some(knee) = &self.knee {
            let broken = knee.broken_by.as_ref().map_or_else(
                || "every phase passed".to_owned(),
                |phase| format!("{} failed", Escaped(phase)),
            );
            let rate = thousands(knee.rate.round());
            let _ = writeln!(page, "<p>Saturation point: {rate} requests per second passed; {broken}.</p>");
        }
        page.push_str("</section>\n");
    }

    fn checks(&self, page: &mut String) {
        if self.checks.is_empty() {
            return;
        }
        page.push_str(
            "<section>\n<h2>Checks</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th></th><th>check</th>\
             <th class=\"n\">value</th><th>limit</th><th>what it means</th></tr></thead>\n<tbody>\n",
        );
        for check in &self.checks {
            let (class, word) = match check.state {
                CheckState::Pass => ("pass", "PASS"),
                CheckState::Fail => ("fail", "FAIL"),
                CheckState::Warned => ("none", "WARN"),
                CheckState::NotJudged => ("none", "not judged"),
            };
            let _ = writeln!(
                page,
                "<tr class=\"row-{class}\"><td><span class=\"state {class}\">{word}</span></td><td><code>{}</code></td>\
                 <td class=\"n\">{}</td><td class=\"l\">{} {}</td><td>{}</td></tr>",
                Escaped(&check.name),
                table::number(check.value),
                match check.relation {
                    "<=" => "≤",
                    ">=" => "≥",
                    other => other,
                },
                table::number(Some(check.limit)),
                Escaped(&check.detail)
            );
        }
        page.push_str("</tbody>\n</table></div>\n</section>\n");
    }

    fn answers(&self, page: &mut String) {
        page.push_str(
            "<section>\n<h2>Responses</h2>\n<p class=\"sub\">Milliseconds from the intended time of arrival; in brackets \
             from the actual send.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>response</th>\
             <th></th><th class=\"n\">count</th><th class=\"n\">share</th><th class=\"n\">mean</th><th class=\"n\">p50</th>\
             <th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">max</th></tr></thead>\n\
             <tbody>\n",
        );
        for outcome in Outcome::ALL {
            let Some(report) = self.outcomes.get(outcome.name()) else { continue };
            let _ = write!(
                page,
                "<tr><td><i class=\"swatch o-{}\"></i><code>{}</code></td><td>{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{:.1} %</td>",
                outcome.name(),
                outcome.name(),
                outcome.meaning(),
                thousands(report.count as f64),
                report.share * 100.0
            );
            let picks: [fn(Quantiles) -> f64; 6] =
                [|q| q.mean, |q| q.p50, |q| q.p90, |q| q.p99, |q| q.p999, |q| q.max];
            for pick in picks {
                let (intended, sent) = (pick(report.latency_ms), pick(report.from_send_ms));
                let _ = write!(
                    page,
                    "<td class=\"n\">{} <small>({})</small></td>",
                    plot::short(intended),
                    plot::short(sent)
                );
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table></div>\n</section>\n");
    }

    fn generator(&self, page: &mut String) {
        let generator = &self.generator;
        let cpu =
            generator.cpu_us_per_request.map_or_else(|| "unknown".to_owned(), |us| format!("{us:.1} µs"));
        let _ = write!(
            page,
            "<section>\n<h2>Load generator</h2>\n<dl class=\"wide\">\n\
             <div><dt>Lateness, p50 / p99 / max</dt><dd>{} / {} / {} ms</dd></div>\n\
             <div><dt>Wait for a connection, p50 / p99 / max</dt><dd>{} / {} / {} ms</dd></div>\n\
             <div><dt>CPU time per request</dt><dd>{cpu}</dd></div>\n\
             <div><dt>Busiest core: running / waiting for a CPU</dt><dd>{} / {}</dd></div>\n\
             <div><dt>Reconnects</dt><dd>{}</dd></div>\n\
             <div><dt>Driver</dt><dd>{}</dd></div>\n</dl>\n</section>\n",
            plot::short(generator.lateness_ms.p50),
            plot::short(generator.lateness_ms.p99),
            plot::short(generator.lateness_ms.max),
            plot::short(generator.connection_wait_ms.p50),
            plot::short(generator.connection_wait_ms.p99),
            plot::short(generator.connection_wait_ms.max),
            percent(generator.busy_share),
            percent(generator.starved_share),
            generator.reconnects,
            generator.driver
        );
    }
}

fn orders(page: &mut String, ledger: &LedgerReport) {
    let _ = write!(
        page,
        "<section>\n<h2>Orders and units</h2>\n<dl>\n\
         <div><dt>Orders sent</dt><dd>{}</dd></div>\n<div><dt>Acknowledged</dt><dd>{}</dd></div>\n\
         <div><dt>Refused</dt><dd>{}</dd></div>\n<div><dt>Indeterminate</dt><dd>{}</dd></div>\n",
        thousands(ledger.orders as f64),
        thousands(ledger.acknowledged as f64),
        thousands(ledger.refused as f64),
        thousands(ledger.indeterminate as f64)
    );
    for (end, count) in &ledger.ends {
        let _ = writeln!(page, "<div><dt><code>{end}</code></dt><dd>{}</dd></div>", thousands(*count as f64));
    }
    let _ = write!(
        page,
        "<div><dt>Without a final status</dt><dd>{}</dd></div>\n\
         <div><dt>Last response to last final status</dt><dd>{} ms</dd></div>\n\
         <div><dt>Source</dt><dd>{}</dd></div>\n</dl>\n",
        thousands(ledger.unfinished as f64),
        ledger.drain_ms,
        ledger.source
    );
    if !ledger.items.is_empty() {
        page.push_str(
            "<div class=\"scroll\"><table>\n<thead><tr><th>item</th><th class=\"n\">seeded</th>\
             <th class=\"n\">restocked</th><th class=\"n\">sold</th>\
             <th class=\"n\">left</th><th class=\"n\">refunded</th><th class=\"n\">refused as sold out</th>\
             <th class=\"n\">lowest level</th></tr></thead>\n<tbody>\n",
        );
        let number =
            |units: Option<i64>| units.map_or_else(|| "unknown".to_owned(), |units| thousands(units as f64));
        for item in &ledger.items {
            let _ = writeln!(
                page,
                "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Escaped(&item.item_id),
                thousands(item.seeded as f64),
                thousands(item.restocked as f64),
                thousands(item.sold as f64),
                number(item.left),
                thousands(item.refunded as f64),
                thousands(item.sold_out_refusals as f64),
                number(item.least_seen)
            );
        }
        page.push_str("</tbody>\n</table></div>\n");
    }
    for violation in &ledger.violations {
        let _ = write!(
            page,
            "<div class=\"violation\"><h3><code>{}</code> broken by {} {}</h3>\n<p>",
            violation.rule,
            thousands(violation.count as f64),
            if violation.count == 1 { "order" } else { "orders" }
        );
        for id in &violation.request_ids {
            let _ = write!(page, "<code>{}</code> ", Escaped(id));
        }
        page.push_str("</p></div>\n");
    }
    page.push_str("</section>\n");
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::ThresholdBroken | Verdict::LedgerViolated => "fail",
        Verdict::Invalid | Verdict::Interrupted => "none",
    }
}

fn word(verdict: Verdict) -> &'static str {
    verdict.sentence().split_once(':').map_or("", |(word, _)| word)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "unknown".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// A whole number with a comma between groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value <= -0.5 {
        text.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Escapes text for HTML text or attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match entity(character) {
                Some(entity) => formatter.write_str(entity)?,
                None => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(Escaped("<a href='\"&'>").to_string(), "&lt;a href=&#39;&quot;&amp;&#39;&gt;");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1_000.0), "−1,000");
    }
}
