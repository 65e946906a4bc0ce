//! The page at `/` as people use it: in a browser, on two nodes over Redis.

use std::net::TcpListener;

use redis::TypedCommands;

use crate::harness::{Browser, Node, NodeCommand, Page, Redis};

/// A node with a name and a fixed port, so that it can come back.
fn start(name: &str, port: u16, redis: &Redis) -> Node {
    let settings = [
        format!("node.name={name}"),
        format!("listen=127.0.0.1:{port}"),
        format!("redis.url={}", redis.url()),
    ];
    NodeCommand::new().set(&settings.each_ref().map(String::as_str)).start()
}

/// Below the ports that outgoing connections use, so that it is still free at a restart.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..30_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn wait_for_node(page: &mut Page, name: &str) {
    page.wait_until("document.querySelector('#state').textContent === 'connected'");
    page.wait_until(&format!("document.querySelector('#node').textContent === {name:?}"));
}

/// Waits for a message, sent as `name` on `node`.
fn wait_for_message(page: &mut Page, text: &str, name: &str, node: &str) {
    page.wait_until(&format!(
        "[...document.querySelectorAll('.message')].some((message) => \
         message.querySelector('.text').textContent === {text:?} \
         && message.querySelector('.who span').textContent === {name:?} \
         && message.querySelector('.who .of-node')?.textContent === {node:?})"
    ));
}

#[test]
fn people_on_two_nodes_talk_and_a_node_may_restart() {
    let redis = Redis::start();
    let port = free_port();
    let mut east = start("east", port, &redis);
    let west = start("west", free_port(), &redis);
    let browser = Browser::start();
    let mut ann = browser.open(&format!("http://{}/", east.address));
    let mut bob = browser.open(&format!("http://{}/", west.address));
    wait_for_node(&mut ann, "east");
    wait_for_node(&mut bob, "west");
    ann.type_into("#name", "Ann");
    bob.type_into("#name", "Bob");

    // What is written stays text, and comes back to its writer, who sees how long it took.
    let text = "<img src=x onerror=alert(1)> & \"hello\"";
    ann.type_into("#text", text);
    wait_for_message(&mut bob, text, "Ann", "east");
    wait_for_message(&mut ann, text, "Ann", "east");
    ann.wait_until("/^[0-9.]+ ms$/.test(document.querySelector('#trip').textContent)");
    ann.wait_until("document.querySelector('.own .you').textContent === ' (you)'");
    bob.wait_until("document.querySelector('.own') === null");
    bob.wait_until("document.querySelector('#rate').textContent !== '0'");
    bob.type_into("#text", "hello east");
    wait_for_message(&mut ann, "hello east", "Bob", "west");

    // Whoever publishes to Redis is read, too.
    redis.connect().publish("dunlin:chat_channel", "a plain program").unwrap();
    for page in [&mut ann, &mut bob] {
        page.wait_until(
            "document.querySelector('.outside .text')?.textContent === 'a plain program'",
        );
        assert_eq!(page.complaints(), [""; 0]);
    }

    // A page comes back by itself, and sees where it is now.
    east.kill();
    ann.wait_until("document.querySelector('#state').dataset.is === 'lost'");
    ann.wait_until("document.querySelector('#compose button').disabled");
    let _north = start("north", port, &redis);
    wait_for_node(&mut ann, "north");
    bob.type_into("#text", "welcome back");
    wait_for_message(&mut ann, "welcome back", "Bob", "west");
    assert_eq!(bob.complaints(), [""; 0]);
    for complaint in ann.complaints() {
        assert!(complaint.contains("ERR_CONNECTION_REFUSED"), "{complaint}");
    }
}
