//! Claim: a private Redis answers once `start` has returned, keeps its port over an outage, is frozen by
//! `pause`, and is gone after `Drop`. Method: a real `redis-server`, so this runs only where one is installed
//! (feature `real`).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use testkit::redis::{Redis, Reply, answers};

#[test]
fn answers_keeps_its_port_and_goes() {
    let mut redis = Redis::start();
    let addr = redis.addr();
    assert_eq!(redis.call(&["SET", "k", "7"]), Reply::Status("OK".into()));
    assert_eq!(redis.call(&["GET", "k"]).int(), Some(7));
    assert_eq!(
        redis.call(&["MGET", "k", "none"]),
        Reply::Array(vec![Reply::Bulk(b"7".to_vec()), Reply::Nil])
    );

    redis.stop();
    assert!(!answers(&addr), "a stopped server answers");
    redis.restart();
    assert_eq!(redis.addr(), addr);
    assert_eq!(redis.call(&["GET", "k"]), Reply::Nil, "no persistence: a restart starts empty");

    drop(redis);
    assert!(!answers(&addr), "a dropped server answers");
}

#[test]
fn a_paused_server_answers_only_after_resume() {
    let mut redis = Redis::start();
    redis.pause();
    let mut stream = TcpStream::connect(redis.addr()).expect("the kernel accepts for a frozen server");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above zero");
    stream.write_all(b"PING\r\n").expect("the kernel takes the bytes");
    let mut answer = [0; 7];
    assert!(stream.read(&mut answer).is_err(), "a frozen server answered");
    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
    stream.read_exact(&mut answer).expect("the held PING is answered");
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_password_is_asked_for() {
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    assert!(matches!(redis.call(&["GET", "k"]), Reply::Error(text) if text.starts_with("NOAUTH")));
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let redis = std::thread::spawn(Redis::start).join().expect("the thread ends well");
    assert_eq!(redis.call(&["PING"]), Reply::Status("PONG".into()));
}
