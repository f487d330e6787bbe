//! The hour before a sale.

use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "The deployment is made ready for 200,000 orders: a wrong setting of Redis is refused before \
                                anything is changed, tables and stock are set, and one order is followed through the \
                                gateway. The command is repeated, and undone.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    let gateway_process = scene.start(&gateway, &[])?;
    let processor_process = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    let items = scene.file("items.txt", "# item units\n101 2000\n102 500\n")?;
    let address = gateway.address.clone();
    let prepare =
        ["prepare", "--orders", "200000", "--items", &items, "--gateway", &address, "--rehearsal", "10s"];

    scene.transcript().step("A wrong setting is refused, and nothing is changed");
    scene.redis_cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    scene.fails(&prepare, 3)?;
    scene.redis_cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    scene.transcript().step("Ready");
    scene.flash_sale(&prepare)?;
    scene.flash_sale(&["stock", "show", "101", "102"])?;
    scene.redis_cli(&["DBSIZE"]);

    scene.transcript().step("Again, and undone");
    scene.flash_sale(&prepare)?;
    scene.flash_sale(&["prepare", "--undo"])?;
    scene.redis_cli(&["DBSIZE"]);
    scene.end(gateway_process)?;
    scene.end(processor_process)
}
