//! Property: the connection uses the password, ACL user and database of the address; with a wrong password it
//! is never reachable and reports so without showing the password.
//! Method: real Redis servers that require them.

use std::time::Duration;

use harness::admit;
use store::redis::{Connection, ConnectionSettings, Server};
use store::{Admission, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

/// Admits one order with the server settings changed by `edit`; the error is the connection's last error.
fn admits(redis: &Redis, edit: impl FnOnce(&mut Server)) -> Result<(), String> {
    let mut server = harness::server(&redis.addr());
    edit(&mut server);
    harness::on_core(async move {
        let store = Connection::open(ConnectionSettings::new(server, harness::policy(), 100));
        if !store.reachable_within(Duration::from_millis(700)).await {
            assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Unreachable));
            return Err(store.last_error().expect("a reason"));
        }
        assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
        assert_eq!(store.last_error(), None);
        Ok(())
    })
}

#[test]
fn the_password_is_used() {
    let redis = Redis::start_with(&["--requirepass", "secret word"]);
    assert_eq!(admits(&redis, |server| server.password = Some("secret word".to_owned())), Ok(()));
    let refused =
        admits(&redis, |server| server.password = Some("hunter2".to_owned())).expect_err("wrong password");
    assert!(refused.contains("WRONGPASS") && !refused.contains("hunter2"), "{refused}");
    let refused = admits(&redis, |_| {}).expect_err("no password");
    assert!(refused.contains("NOAUTH"), "{refused}");
}

#[test]
fn the_acl_user_is_used() {
    let redis = Redis::start_with(&["--user", "shop", "on", ">secret", "~*", "+@all"]);
    let credentials = |user: &str| {
        let user = user.to_owned();
        |server: &mut Server| (server.user, server.password) = (Some(user), Some("secret".to_owned()))
    };
    assert_eq!(admits(&redis, credentials("shop")), Ok(()));
    assert!(admits(&redis, credentials("thief")).is_err());
}

#[test]
fn the_database_is_used() {
    let redis = Redis::start();
    assert_eq!(admits(&redis, |server| server.db = 3), Ok(()));
    let keyspace = redis.call(&["INFO", "keyspace"]).text().expect("a text");
    assert!(keyspace.contains("db3:keys=2") && !keyspace.contains("db0"), "{keyspace}");
    let refused = admits(&redis, |server| server.db = 99).expect_err("there are only 16 databases");
    assert!(refused.contains("out of range"), "{refused}");
}
