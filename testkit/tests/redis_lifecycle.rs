//! Property: a private Redis replies once `start` has returned, keeps its port across an outage, is frozen by
//! `pause`, and is gone after `Drop`. Method: a real `redis-server`, so this runs only where one is installed
//! (feature `real`).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use testkit::redis::{Redis, Reply, answers};

#[test]
fn server_keeps_its_port_and_stops_on_drop() {
    let mut redis = Redis::start();
    let addr = redis.addr();
    assert_eq!(redis.call(&["SET", "k", "7"]), Reply::Status("OK".into()));
    assert_eq!(redis.call(&["GET", "k"]).int(), Some(7));
    assert_eq!(
        redis.call(&["MGET", "k", "none"]),
        Reply::Array(vec![Reply::Bulk(b"7".to_vec()), Reply::Nil])
    );

    redis.stop();
    assert!(!answers(&addr), "a stopped server replied");
    redis.restart();
    assert_eq!(redis.addr(), addr);
    assert_eq!(redis.call(&["GET", "k"]), Reply::Nil, "no persistence: a restart starts empty");

    drop(redis);
    assert!(!answers(&addr), "a dropped server replied");
}

#[test]
fn paused_server_replies_only_after_resume() {
    let mut redis = Redis::start();
    redis.pause();
    let mut stream = TcpStream::connect(redis.addr()).expect("the kernel accepts for a frozen server");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above zero");
    stream.write_all(b"PING\r\n").expect("the kernel buffers the bytes");
    let mut reply = [0; 7];
    assert!(stream.read(&mut reply).is_err(), "a frozen server replied");
    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
    stream.read_exact(&mut reply).expect("the reply to the held PING");
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn password_is_required() {
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    assert!(matches!(redis.call(&["GET", "k"]), Reply::Error(text) if text.starts_with("NOAUTH")));
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let redis = std::thread::spawn(Redis::start).join().expect("the thread does not panic");
    assert_eq!(redis.call(&["PING"]), Reply::Status("PONG".into()));
}
