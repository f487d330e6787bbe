//! Property: every property of this crate holds for every input in the corpus and for random mutations of it.
//! Method: a bounded run of the fuzz targets, on stable Rust and without a fuzzer: first the corpus, then
//! random mutations of it. The seed is printed; set `FUZZ_SEED` to reproduce a run. Findings of a long
//! `cargo xtask fuzz` run are committed to the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use properties::{TARGETS, Target};

/// Time per target; all targets run concurrently. A failure is reproducible, because the seed alone
/// determines the inputs.
const TIME_PER_TARGET: Duration = Duration::from_secs(2);
/// Longest mutated input: a few requests or replies.
const BYTES_MAX: usize = 4096;

#[test]
fn http_request() {
    run("http_request");
}

#[test]
fn order_json() {
    run("order_json");
}

#[test]
fn resp() {
    run("resp");
}

#[test]
fn record() {
    run("record");
}

#[test]
fn scenario() {
    run("scenario");
}

#[test]
fn every_target_has_a_test_and_a_fuzz_target() {
    let source = include_str!("corpus_and_mutations.rs");
    let fuzz = root().join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for target in TARGETS {
        let name = target.name;
        assert!(source.contains(&format!("run(\"{name}\")")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let body = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("its fuzz target");
        assert!(body.contains(&format!("properties::{name}::check")), "{name}");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let corpus = corpus(name);
    for (file, input) in &corpus {
        check(target, input, &format!("fuzz/corpus/{name}/{file}"));
    }
    let seed = match std::env::var("FUZZ_SEED") {
        Ok(text) => text.parse().expect("FUZZ_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64,
    };
    let mut random = Random(seed);
    let begin = Instant::now();
    let mut count = 0_u64;
    while begin.elapsed() < TIME_PER_TARGET {
        // The clock is read once per hundred inputs.
        for _ in 0..100 {
            let input = random.mutate(&corpus, target.dictionary);
            check(target, &input, &format!("FUZZ_SEED={seed}, input {count}"));
            count += 1;
        }
    }
    println!("{name}: {} corpus inputs and {count} mutated inputs, FUZZ_SEED={seed}", corpus.len());
}

fn check(target: &Target, input: &[u8], what: &str) {
    let holds = catch_unwind(AssertUnwindSafe(|| (target.check)(input))).is_ok();
    assert!(holds, "{} does not hold for {what}:\n{}", target.name, input.escape_ascii());
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{}: {} files", folder.display(), files.len());
    let read = |file: PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read(&file).expect("a file of the corpus"))
    };
    files.into_iter().map(read).collect()
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A corpus input after one to eight random mutations.
    fn mutate(&mut self, corpus: &[(String, Vec<u8>)], dictionary: &[&str]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(8) {
            let at = self.below(input.len() + 1);
            let end = at + self.below((input.len() - at).min(32) + 1);
            match self.below(7) {
                0 if !input.is_empty() => {
                    let at = at.min(input.len() - 1);
                    input[at] ^= 1 << self.below(8);
                }
                1 => input.insert(at, self.next() as u8),
                2 => drop(input.drain(at..end)),
                3 => {
                    let copy = input[at..end].to_vec();
                    let to = self.below(input.len() + 1);
                    input.splice(to..to, copy);
                }
                4 => {
                    let other = &corpus[self.below(corpus.len())].1;
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    let word = dictionary[self.below(dictionary.len())].as_bytes();
                    let end = if self.below(2) == 0 { at } else { end };
                    input.splice(at..end, word.iter().copied());
                }
            }
        }
        input.truncate(BYTES_MAX);
        input
    }
}
