//! A rate limit that is too low rejects a buyer; the limit is raised by a restart.

use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "A limit of two orders per minute rejects a buyer's third order. Shows the symptoms and how to \
                                raise the limit.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    context.transcript().step("The limit is too low");
    context.flash_sale(&["stock", "set", "101", "100"])?;
    let gateway_process = context.start(&gateway, &[("RATE_LIMIT_MAX_REQUESTS", "2")])?;
    let buys = |context: &mut DrillContext, ids: &[&str]| -> Vec<u16> {
        ids.iter().map(|id| context.buy_as(&gateway, "u1", id)).collect()
    };
    expect(&buys(context, &["r-1", "r-2", "r-3"]), &[202, 202, 429])?;

    context.transcript().step("Symptoms");
    context.grep(&gateway, "/metrics", "gateway_rate_limited_total");
    context.grep(&gateway, "/metrics", "gateway_orders_successful_total");
    context.redis_cli(&["TYPE", "ratelimit:u1"]);
    context.redis_cli(&["PTTL", "ratelimit:u1"]);

    context.transcript().step("The limit is raised");
    context.transcript().prose(
        "The two orders of this minute still count. The rejected order may be sent again under the same id.",
    );
    context.end(gateway_process)?;
    let gateway_process = context.start(&gateway, &[("RATE_LIMIT_MAX_REQUESTS", "120")])?;
    expect(&buys(context, &["r-3", "r-4"]), &[202, 202])?;

    context.transcript().step("The end");
    context.end(gateway_process)
}

fn expect(statuses: &[u16], wanted: &[u16]) -> Result<()> {
    if statuses == wanted { Ok(()) } else { Err(format!("got {statuses:?} instead of {wanted:?}").into()) }
}
