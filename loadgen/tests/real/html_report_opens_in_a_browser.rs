//! Property: the HTML report opens in a real browser in light and dark mode, shows every plot inside its
//! frame, loads no external resource and causes no console message.
//!
//! Method: headless chromium. A script in a copy of the page measures the drawn plots and writes the numbers
//! into the document, which is then dumped. A page with deliberate errors shows that console messages are
//! detected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use report::{FaultMark, LagSample};
use serde_json::Value;
use target::{Conduct, Target, run};
use testkit::TempDir;

use crate::target;

/// Result of one page load.
struct Opened {
    dom: String,
    /// Console lines, including resources that failed to load.
    complaints: Vec<String>,
}

/// `TEST_BROWSER`, or the first known browser in `PATH`.
fn browser() -> PathBuf {
    if let Some(given) = std::env::var_os("TEST_BROWSER") {
        return given.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().find_map(|name| {
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
    });
    found.unwrap_or_else(|| {
        panic!(
            "no browser in PATH, looked for {}. Remedy: apt-get install chromium, or set TEST_BROWSER",
            names.join(", ")
        )
    })
}

fn open(dir: &Path, page: &str, is_dark: bool) -> Opened {
    let file = dir.join("page.html");
    fs::write(&file, page).expect("a directory of ours");
    // The browser's values: 0 is dark, 1 is light.
    let scheme = u8::from(!is_dark);
    let mut command = Command::new(browser());
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"])
        // No host name resolves: every external request fails and is logged to the console.
        .args(["--disable-background-networking", "--disable-component-update"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--log-level=0"])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .args(["--window-size=1280,2400", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.join("dom")).expect("ours"))
        .stderr(fs::File::create(dir.join("log")).expect("ours"));
    let mut child = testkit::child::spawn(command).expect("the browser starts");
    let mut status = None;
    testkit::wait_until("the browser has dumped the page", Duration::from_mins(1), || {
        status = child.ended();
        status.is_some()
    });
    let read = |name: &str| String::from_utf8_lossy(&fs::read(dir.join(name)).expect("ours")).into_owned();
    let (dom, log) = (read("dom"), read("log"));
    assert!(status.is_some_and(|status| status.success()), "the browser failed:\n{log}");
    let complaints = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Opened { dom, complaints }
}

/// Writes sizes of the drawn plots and the page's colours into the document.
const PROBE: &str = r#"<script>
const plots = [...document.querySelectorAll("figure")].map(figure => {
  const frame = figure.querySelector("svg").getBoundingClientRect();
  const drawn = [...figure.querySelectorAll(".line, .area")].map(path => path.getBoundingClientRect());
  const slack = 2;
  return {
    title: figure.querySelector("h2").textContent,
    width: frame.width, height: frame.height,
    drawn: drawn.filter(box => box.width > 0).length,
    outside: drawn.filter(box => box.left < frame.left - slack || box.right > frame.right + slack
      || box.top < frame.top - slack || box.bottom > frame.bottom + slack).length,
    marks: figure.querySelectorAll(".mark").length,
  };
});
const out = document.createElement("output");
out.id = "probe";
out.textContent = JSON.stringify({
  plots,
  paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  asked: performance.getEntriesByType("resource").map(entry => entry.name),
});
document.body.append(out);
</script>"#;

fn probe(opened: &Opened) -> Value {
    let text = opened.dom.split_once("id=\"probe\">").and_then(|(_, rest)| rest.split_once("</output>"));
    let (text, _) =
        text.unwrap_or_else(|| panic!("the probe wrote nothing: {:?}\n{}", opened.complaints, opened.dom));
    serde_json::from_str(&text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")).expect("JSON")
}

/// Sum of the three parts of `rgb(r, g, b)`.
fn brightness(colour: &Value) -> u32 {
    let text = colour.as_str().expect("a colour");
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok()).take(3).sum()
}

fn page() -> String {
    let target = Target::start(|_, order| match order.number {
        0 => Conduct::Forget,
        n if n > 250 => Conduct::Say(410),
        _ => Conduct::Honest,
    });
    let mut plan = target.plan();
    plan.duplicates_share = 0.1;
    plan.rate_per_s = 300;
    let mut report = run(&plan, &target.audit());
    report.series.lag = (0..10).map(|step| LagSample { at_ms: step * 100, records: step * step }).collect();
    report.faults =
        vec![FaultMark { at_ms: 300, what: "kill -9 <gateway> & wait".to_owned(), trouble: None }];
    report.html()
}

#[test]
fn the_page_shows_every_plot_without_console_messages() {
    let dir = TempDir::new("loadgen-browser");
    let page = page();
    let plain = open(dir.path(), &page, false);
    assert_eq!(plain.complaints, [""; 0]);
    assert_eq!(plain.dom.matches("<svg").count(), 5, "as many plots as the page has");

    let probed = page.replace("</body>", &format!("{PROBE}</body>"));
    let mut papers = Vec::new();
    for is_dark in [false, true] {
        let opened = open(dir.path(), &probed, is_dark);
        assert_eq!(opened.complaints, [""; 0]);
        let seen = probe(&opened);
        let plots = seen["plots"].as_array().expect("plots");
        let titles: Vec<_> = plots.iter().filter_map(|plot| plot["title"].as_str()).collect();
        assert_eq!(
            titles,
            [
                "Responses per second",
                "Latency over time",
                "Percentiles of the 202 responses",
                "Stock",
                "Consumer lag"
            ]
        );
        for plot in plots {
            assert!(plot["width"].as_f64() > Some(600.0) && plot["height"].as_f64() > Some(150.0), "{plot}");
            assert!(plot["drawn"].as_u64() >= Some(1) && plot["outside"] == 0, "{plot}");
            let is_over_time = plot["title"] != "Percentiles of the 202 responses";
            assert_eq!(plot["marks"], u64::from(is_over_time), "{plot}");
        }
        assert_eq!(seen["overflow"], 0, "the page is not wider than the window");
        assert_eq!(seen["asked"], serde_json::json!([]), "nothing is loaded");
        papers.push((brightness(&seen["paper"]), brightness(&seen["ink"])));
    }
    let [(light, light_ink), (dark, dark_ink)] = papers[..] else { panic!("two schemes") };
    assert!(light > 600 && light_ink < 200, "dark on light: {papers:?}");
    assert!(dark < 150 && dark_ink > 600, "light on dark: {papers:?}");
}

#[test]
fn console_messages_are_detected() {
    let dir = TempDir::new("loadgen-browser");
    let wrong = "<!doctype html><body><script>console.error('on purpose'); none.such</script></body>";
    let opened = open(dir.path(), wrong, false);
    assert!(opened.complaints.iter().any(|line| line.contains("on purpose")), "{:?}", opened.complaints);
    assert!(
        opened.complaints.iter().any(|line| line.contains("none is not defined")),
        "{:?}",
        opened.complaints
    );
    let leaving = "<!doctype html><body><img src=\"http://example.invalid/x.png\"><script>\
                   addEventListener('error', () => console.error('not loaded'), true)</script></body>";
    assert!(!open(dir.path(), leaving, false).complaints.is_empty(), "an external request is detected");
}
