//! A buyer is refused by a limit that is too tight; the limit is raised by a restart.

use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "A limit of two orders a minute refuses a buyer's third. What is seen, and how the limit is \
                                raised.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    scene.transcript().step("Too tight");
    scene.flash_sale(&["stock", "set", "101", "100"])?;
    let gateway_actor = scene.start(&gateway, &[("RATE_LIMIT_MAX_REQUESTS", "2")])?;
    let buys = |scene: &mut Scene, ids: &[&str]| -> Vec<u16> {
        ids.iter().map(|id| scene.buy_as(&gateway, "u1", id)).collect()
    };
    expect(&buys(scene, &["r-1", "r-2", "r-3"]), &[202, 202, 429])?;

    scene.transcript().step("What is seen");
    scene.grep(&gateway, "/metrics", "gateway_rate_limited_total");
    scene.grep(&gateway, "/metrics", "gateway_orders_successful_total");
    scene.redis_cli(&["TYPE", "ratelimit:u1"]);
    scene.redis_cli(&["PTTL", "ratelimit:u1"]);

    scene.transcript().step("Raised");
    scene
        .transcript()
        .prose("The two orders of the minute still count; the refused one may be sent again under its id.");
    scene.end(gateway_actor)?;
    let gateway_actor = scene.start(&gateway, &[("RATE_LIMIT_MAX_REQUESTS", "120")])?;
    expect(&buys(scene, &["r-3", "r-4"]), &[202, 202])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)
}

fn expect(answers: &[u16], wanted: &[u16]) -> Result<()> {
    if answers == wanted { Ok(()) } else { Err(format!("answered {answers:?} instead of {wanted:?}").into()) }
}
