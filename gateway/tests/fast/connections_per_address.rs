//! Property: with `MAX_CONNECTIONS_PER_ADDRESS` a client gets exactly that many connections, whichever cores accepted
//! them; the next one gets 503 and is closed, other clients are not affected, and closing a connection frees a slot.
//! Method: real sockets bound to several loopback addresses, on two cores.

use crate::test_gateway;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use test_gateway::TestGateway;
use testkit::http::Client;

const CONNECTIONS_MAX: usize = 5;

/// Connects from a given source address. Uses socket2 because std cannot bind a socket before connecting.
fn connect(test_gateway: &TestGateway, from: Ipv4Addr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127/8 is local");
    socket.connect(&test_gateway.running().address().into()).expect("a connection");
    Client::over(TcpStream::from(socket))
}

fn is_served(client: &mut Client) -> bool {
    client.try_get("/live").is_some_and(|answer| answer.status == 200)
}

#[test]
fn an_address_gets_exactly_its_limit_of_connections() {
    let max = CONNECTIONS_MAX.to_string();
    let test_gateway = TestGateway::new(&[("WORKERS", "2"), ("MAX_CONNECTIONS_PER_ADDRESS", &max)]);
    let first = Ipv4Addr::new(127, 0, 0, 2);
    let mut held: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| connect(&test_gateway, first)).collect();
    assert!(held.iter_mut().all(is_served));
    for _ in 0..3 {
        let mut refused = connect(&test_gateway, first);
        let answer = refused.read_response();
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
        refused.expect_closed();
    }
    assert!((test_gateway.metric("gateway_connections_refused_per_address_total") - 3.0).abs() < 0.5);
    assert!((test_gateway.metric("gateway_connections_refused_total") - 3.0).abs() < 0.5);
    for last in [3, 4, 5] {
        let other = Ipv4Addr::new(127, 0, 0, last);
        let mut others: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| connect(&test_gateway, other)).collect();
        assert!(others.iter_mut().all(is_served), "{other}");
    }
    drop(held.pop());
    let mut next = None;
    testkit::wait_until("closing a connection frees a slot", Duration::from_secs(5), || {
        let mut client = connect(&test_gateway, first);
        let is_served = is_served(&mut client);
        next = is_served.then_some(client);
        is_served
    });
    assert!(held.iter_mut().all(is_served), "the existing connections stay open");
}

#[test]
fn by_default_connections_per_address_are_unlimited() {
    let test_gateway = TestGateway::new(&[("WORKERS", "2")]);
    let mut clients: Vec<Client> =
        (0..64).map(|_| connect(&test_gateway, Ipv4Addr::new(127, 0, 0, 2))).collect();
    assert!(clients.iter_mut().all(is_served));
}
