//! The preparation in the hour before a sale.

use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "The deployment is prepared for 200,000 orders: a wrong Redis setting is rejected before \
                                anything is changed, tables and stock are set, and one order is traced through the \
                                gateway. The command is repeated and then undone.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    let items = context.file("items.txt", "# item units\n101 2000\n102 500\n")?;
    let address = gateway.address.clone();
    let prepare =
        ["prepare", "--orders", "200000", "--items", &items, "--gateway", &address, "--rehearsal", "10s"];

    context.transcript().step("A wrong setting is rejected, and nothing is changed");
    context.redis_cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    context.expect_exit(&prepare, 3)?;
    context.redis_cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    context.transcript().step("Prepare");
    context.flash_sale(&prepare)?;
    context.flash_sale(&["stock", "show", "101", "102"])?;
    context.redis_cli(&["DBSIZE"]);

    context.transcript().step("Repeat and undo");
    context.flash_sale(&prepare)?;
    context.flash_sale(&["prepare", "--undo"])?;
    context.redis_cli(&["DBSIZE"]);
    context.end(gateway_process)?;
    context.end(processor_process)
}
