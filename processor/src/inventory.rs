//! Units left and drift of the items seen, asked once a second by the first core.

use std::rc::Rc;

use store::{Answer, Command, Store as _};

use crate::core::{Core, Level};

/// Asks for every item seen. When the store does not answer, the last levels stay.
pub(crate) async fn refresh(core: Rc<Core>) {
    let items = core.shared.items.lock().clone();
    if items.is_empty() {
        return;
    }
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    let left = core.store.ask(&Command::Stock { items: &names }).await;
    let ledgers = core.store.ask(&Command::Ledgers { items: &names }).await;
    let (Ok(Answer::Stock(left)), Ok(Answer::Ledgers(ledgers))) = (left, ledgers) else { return };
    let level = |((item_id, left), ledger): ((&String, Option<i64>), Option<store::answer::Ledger>)| Level {
        item_id: item_id.clone(),
        left,
        drift: ledger.zip(left).map(|(ledger, left)| ledger.base - left - ledger.taken),
    };
    let levels = items.iter().zip(left).zip(ledgers).map(level).collect();
    *core.shared.levels.lock() = levels;
}
