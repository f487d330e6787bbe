//! Reads the stock of a sale from a file and sets it.

use std::path::Path;

use store::{Answer, AnyStore, Command};

use super::report::{Row, State};
use crate::stock_command::{UNITS_MAX, ask};

/// Items per query; the store's limit is higher.
const ITEMS_AT_ONCE: usize = 1000;

/// An item and its units.
pub(super) type Item = (String, u64);

/// Reads one `<item> <units>` or `<item>,<units>` per line; skips blank lines and lines that begin with #.
///
/// # Errors
/// All invalid lines, with line numbers.
pub(super) fn read(path: &Path) -> Result<Vec<Item>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|lines| format!("{}: {}", path.display(), lines.join("; ")))
}

fn parse(text: &str) -> Result<Vec<Item>, Vec<String>> {
    let (mut items, mut wrong) = (Vec::<Item>::new(), Vec::new());
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        match (words.next(), words.next().map(str::parse::<u64>), words.next()) {
            (Some(item), _, _) if wire::order::check_id(item).is_err() => {
                wrong.push(format!(
                    "line {number}: {item:?} is not a valid item: 1 to 100 characters of A-Z a-z 0-9 _ -"
                ));
            }
            (Some(item), _, _) if items.iter().any(|(known, _)| known == item) => {
                wrong.push(format!("line {number}: {item} appears twice"));
            }
            (Some(item), Some(Ok(units)), None) if units <= UNITS_MAX => items.push((item.to_owned(), units)),
            _ => {
                wrong
                    .push(format!("line {number}: {line:?} is not `<item> <units>`, units 0 to {UNITS_MAX}"));
            }
        }
    }
    if wrong.is_empty() && items.is_empty() {
        wrong.push("no items".to_owned());
    }
    if wrong.is_empty() { Ok(items) } else { Err(wrong) }
}

/// Sets the stock of each item that differs, unless units of it are held or sold: then its sale is already running.
pub(super) async fn set(store: &AnyStore, items: &[Item]) -> Vec<Row> {
    let mut rows = Vec::new();
    for some in items.chunks(ITEMS_AT_ONCE) {
        match levels(store, some).await {
            Ok(found) => {
                for (item, found) in some.iter().zip(found) {
                    rows.push(set_one(store, item, found).await);
                }
            }
            Err(reason) => {
                rows.extend(some.iter().map(|(item, _)| Row::failed(format!("stock {item}"), &reason)));
            }
        }
    }
    rows
}

/// Units left and units taken (held or sold) of each item.
async fn levels(store: &AnyStore, items: &[Item]) -> Result<Vec<(Option<i64>, i64)>, String> {
    let names: Vec<&str> = items.iter().map(|(item, _)| item.as_str()).collect();
    let Answer::Stock(levels) = ask(store, Command::Stock { items: &names }).await? else {
        return Err("unexpected reply".to_owned());
    };
    let Answer::Ledgers(ledgers) = ask(store, Command::Ledgers { items: &names }).await? else {
        return Err("unexpected reply".to_owned());
    };
    let taken = ledgers.into_iter().map(|ledger| ledger.map_or(0, |ledger| ledger.taken));
    Ok(levels.into_iter().zip(taken).collect())
}

async fn set_one(store: &AnyStore, (item, units): &Item, (level, taken): (Option<i64>, i64)) -> Row {
    let name = format!("stock {item}");
    if taken != 0 {
        let text = format!(
            "{taken} units are held or sold: its sale is already running. Remove it from the file, or use flash-sale stock"
        );
        return Row::new(name, State::Refuse, text);
    }
    if level != i64::try_from(*units).ok()
        && let Err(reason) = ask(store, Command::SetStock { item_id: item, units: *units }).await
    {
        return Row::failed(name, reason);
    }
    Row::new(name, State::Ok, format!("{units} left"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_invalid_lines_are_reported_at_once() {
        let items = parse("# a sale\n101 2000\n\n102,30\n").expect("two items");
        assert_eq!(items, [("101".to_owned(), 2000), ("102".to_owned(), 30)]);
        let wrong = parse("101 2000\n101 5\na b\n!x 4\n7\n7 8 9\n").expect_err("five invalid lines");
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert!(parse("# nothing\n").is_err());
    }
}
