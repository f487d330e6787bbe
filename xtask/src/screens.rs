//! `cargo xtask screens`: takes a screenshot of the live view of a real run, for the documentation.
//!
//! Runs gateway and processor on a real Redis and Kafka and `flash-sale loadgen` in a terminal (`script`), interprets the
//! terminal output, converts the screen during the sale to an HTML page, and takes a screenshot of the page with chromium.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded};

use crate::perf::stage::{Stage, flash_sale_binary};
use crate::services::apt;
use crate::step::{self, Result};
use crate::workspace;
use terminal::{Colour, Terminal};

/// A terminal emulator.
mod terminal;

/// A sale that sells out halfway, with refusals of each kind.
const SALE: &str = "--rate 1500 --duration 12s --items 3 --hot-share 0.6 --stock 3000 --duplicates 0.03 --reused 0.005 \
                    --invalid 0.01 --bots 0.08 --connections 128";
const COLUMNS: usize = 108;
const ROWS: usize = 30;
/// The view is redrawn ten times a second; after this time without output a redraw is complete.
const IDLE: Duration = Duration::from_millis(30);
/// How long the sale may take to reach the moment of the screenshot.
const WAIT_MAX: Duration = Duration::from_secs(40);
/// Width and height of a character cell in pixels with a 15 px font.
const CELL: (usize, usize) = (9, 20);
/// Margin of the screenshot in pixels.
const MARGIN: usize = 20;

/// Takes the screenshot.
pub(crate) fn run() -> Result<()> {
    let browser = apt::program("chromium", "chromium")?;
    let script = apt::program("script", "bsdutils")?;
    Stage::build("flash-sale")?;
    let stage = Stage::set()?;
    let mut gateway = stage.flash_sale("gateway", "--listen-addr", &[])?;
    gateway.wait_healthy()?;
    let mut processor = stage.flash_sale("processor", "--metrics-addr", &[])?;
    processor.wait_healthy()?;

    let loadgen =
        format!("loadgen --target http://{} --redis {} {SALE}", gateway.address, stage.redis.addr());
    let line = format!("stty rows {ROWS} cols {COLUMNS}; exec {} {loadgen}", flash_sale_binary().display());
    let mut command = Command::new(script);
    command.args(["--quiet", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm-256color");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = child::spawn(command).map_err(|e| format!("cannot start script: {e}"))?;
    let screen = step::timed("a sale in a terminal", || screen_during_sale(&mut running))?;
    drop(running);

    let shown =
        loadgen.replace(&gateway.address, "127.0.0.1:8080").replace(&stage.redis.addr(), "127.0.0.1:6379");
    let picture = workspace::root().join("docs/screens/live.png");
    take_screenshot(&browser, stage.dir(), &page(&shown, &screen), screen.lines().len(), &picture)?;
    step::say("written to docs/screens/live.png");
    Ok(())
}

/// Waits for refusals of each kind and returns the screen; the view must be on it exactly once.
fn screen_during_sale(running: &mut Guarded) -> Result<Terminal> {
    let chunks = read(running)?;
    let mut terminal = Terminal::new(COLUMNS);
    let begun = Instant::now();
    loop {
        step::check_interrupt()?;
        match chunks.recv_timeout(IDLE) {
            Ok(bytes) => terminal.write(&String::from_utf8_lossy(&bytes)),
            Err(RecvTimeoutError::Timeout) => {
                let text = terminal.text();
                if [", 400 ", ", 409 ", ", 410 ", ", 422 ", ", 429 "]
                    .iter()
                    .all(|status| text.contains(status))
                {
                    return match text.matches(" sale ").count() {
                        1 => Ok(terminal),
                        count => Err(format!("the view is drawn {count} times:\n{text}").into()),
                    };
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(
                    format!("the sale ended without refusals of each kind:\n{}", terminal.text()).into()
                );
            }
        }
        if begun.elapsed() > WAIT_MAX {
            return Err(format!(
                "some kinds of refusal are missing after {WAIT_MAX:?}:\n{}",
                terminal.text()
            )
            .into());
        }
    }
}

fn read(running: &mut Guarded) -> Result<Receiver<Vec<u8>>> {
    let mut output = running.child().stdout.take().ok_or("standard output is piped")?;
    let (send, chunks) = mpsc::channel();
    std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let mut buffer = [0; 16 * 1024];
        // A read may end inside a character. Its bytes are kept for the next read, which follows immediately.
        let mut kept = Vec::new();
        while let Ok(filled) = output.read(&mut buffer) {
            if filled == 0 {
                return;
            }
            kept.extend_from_slice(&buffer[..filled]);
            let whole = match std::str::from_utf8(&kept) {
                Ok(_) => kept.len(),
                Err(error) => error.valid_up_to(),
            };
            if send.send(kept.drain(..whole).collect()).is_err() {
                return;
            }
        }
    })?;
    Ok(chunks)
}

/// An HTML page with the command and the screen below it.
fn page(command: &str, screen: &Terminal) -> String {
    let mut text = String::from(
        "<!doctype html><meta charset=\"utf-8\"><style>\
         body{margin:0;background:#16181d;color:#d6d9df}\
         pre{margin:20px;font:15px/20px 'DejaVu Sans Mono',monospace}\
         .dim{color:#6b7280}.cyan{color:#4cc2d6}.green{color:#6cc56a}.red{color:#e5686b}.yellow{color:#d9b44a}\
         .bold{font-weight:bold}</style><pre>",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "<span class=\"dim\">$</span> flash-sale {}\n", folded(command));
    for line in screen.lines() {
        for (colour, part) in line {
            let part = part.replace('&', "&amp;").replace('<', "&lt;");
            let _ = match colour {
                Colour::Plain => write!(text, "{part}"),
                Colour::Named(name) => write!(text, "<span class=\"{name}\">{part}</span>"),
            };
        }
        text.push('\n');
    }
    text.push_str("</pre>");
    text
}

/// Splits a long command into lines that end in a backslash.
fn folded(command: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in command.split_inclusive(' ') {
        if column + word.len() > COLUMNS - 16 && word.starts_with("--") {
            text.push_str("\\\n    ");
            column = 0;
        }
        text.push_str(word);
        column += word.len();
    }
    text
}

fn take_screenshot(browser: &Path, dir: &Path, page: &str, lines: usize, picture: &Path) -> Result<()> {
    let file = dir.join("live.html");
    fs::write(&file, page).map_err(|e| format!("{}: {e}", file.display()))?;
    let command_lines = page.matches("\\\n").count() + 2;
    let (width, height) = (COLUMNS * CELL.0 + 2 * MARGIN, (lines + command_lines) * CELL.1 + 2 * MARGIN);
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
        .args(["--force-device-scale-factor=2", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", file.display()));
    step::capture(command, Duration::from_mins(1)).map(drop)
}
