//! Wall time of the stages, measured with criterion: for an idle machine, to check that fewer instructions take less time.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stage_benches::json::PARSERS;
use stage_benches::orders::BODY_BYTES;
use stage_benches::stages::REQUEST_PATH;
use stage_benches::{Stage, all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn time(criterion: &mut Criterion) {
    let is_parser = |stage: &&Stage| stage.name == "parse_json";
    let parsers: Vec<Stage> = REQUEST_PATH.iter().filter(is_parser).chain(PARSERS).copied().collect();
    let request_path: Vec<Stage> =
        all().into_iter().filter(|one| parsers.iter().all(|other| other.name != one.name)).collect();
    for (name, stages, throughput) in
        [("request_path", request_path, None), ("json", parsers, Some(Throughput::Bytes(BODY_BYTES as u64)))]
    {
        let mut group = criterion.benchmark_group(name);
        if let Some(throughput) = throughput {
            group.throughput(throughput);
        }
        for stage in stages.iter().filter(|stage| stage.is_timed) {
            (stage.run)(&mut |work| {
                let mut number = 0;
                group.bench_function(stage.name, |bencher| {
                    bencher.iter(|| {
                        work(number);
                        number += 1;
                    });
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = wall;
    // Each call takes less than a microsecond, so a second contains millions of them.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = time
}
criterion_main!(wall);
