//! A node that takes over the listening socket of the one before it: nobody is refused meanwhile.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use rustix::process::Signal;

use crate::harness::{Client, NodeCommand, get, wait_until};

const SETTINGS: [&str; 3] =
    ["listen=127.0.0.1:1", "shutdown.accept_for=0s", "shutdown.drain=500ms"];

#[test]
fn a_restart_on_a_socket_that_was_handed_over_refuses_nobody() {
    const CLIENTS: usize = 8;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || NodeCommand::with_socket(&listener).set(&SETTINGS).start();
    let (served, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut node = start();
    assert_eq!(node.address, address, "it listens where the socket does");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // Panics if the socket is refused or closed, or the answer is no 101.
                    drop(Client::open(address, "/ws/c"));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let wait_for_more = || {
            let before = served.load(Ordering::Relaxed);
            wait_until("clients are served", || served.load(Ordering::Relaxed) > before + 100);
        };
        for _ in 0..3 {
            wait_for_more();
            node.signal(Signal::TERM);
            assert_eq!(node.wait_for_end().code(), Some(0));
            node = start();
            wait_for_more();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn one_socket_that_is_handed_over_is_the_one_for_clients() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let command = NodeCommand::with_socket(&listener).set(&SETTINGS);
    let mut node = command.set(&["internal.listen=127.0.0.1:0"]).start();
    node.wait_for_log("internal http://");
    assert_eq!(node.address, listener.local_addr().unwrap());
    assert_eq!(get(node.address, "/ready").status, 404);
}
