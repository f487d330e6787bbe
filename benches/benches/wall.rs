//! Wall time of the stations, by criterion: for a quiet machine, and to see that fewer instructions are less time.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use road_benches::json::CONTESTANTS;
use road_benches::orders::BODY_BYTES;
use road_benches::stations::ROAD;
use road_benches::{Station, all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn time(criterion: &mut Criterion) {
    let is_parser = |station: &&Station| station.name == "parse_json";
    let parsers: Vec<Station> = ROAD.iter().filter(is_parser).chain(CONTESTANTS).copied().collect();
    let road: Vec<Station> =
        all().into_iter().filter(|one| parsers.iter().all(|other| other.name != one.name)).collect();
    for (name, stations, throughput) in
        [("road", road, None), ("json", parsers, Some(Throughput::Bytes(BODY_BYTES as u64)))]
    {
        let mut group = criterion.benchmark_group(name);
        if let Some(throughput) = throughput {
            group.throughput(throughput);
        }
        for station in stations.iter().filter(|station| station.is_timed) {
            (station.run)(&mut |work| {
                let mut number = 0;
                group.bench_function(station.name, |bencher| {
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
    // Each call is below a microsecond: a second holds millions of them.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = time
}
criterion_main!(wall);
