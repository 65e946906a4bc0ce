//! The pages at `/` and `/memory` as people use them: in a browser, on two nodes over Redis.

use std::{net::TcpListener, path::Path};

use redis::TypedCommands;

use crate::harness::{Browser, Node, NodeCommand, Page, Redis, wait_until};

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
    page.wait_until("document.querySelector('#state')?.textContent === 'connected'");
    page.wait_until(&format!("document.querySelector('#node')?.textContent === {name:?}"));
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

/// What `dunlin demo` gives its nodes, in a file as operators write it.
const DEMO_SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/front/demo/demo.toml");

/// A node with channels for the second tab.
fn start_with_memory(name: &str, redis: &Redis) -> Node {
    let settings = [format!("node.name={name}"), format!("redis.url={}", redis.url())];
    let command = NodeCommand::new().file(Path::new(DEMO_SETTINGS));
    command.set(&settings.each_ref().map(String::as_str)).start()
}

/// Waits for a line of the second tab: its text and what is marked beside it.
fn wait_for_line(page: &mut Page, text: &str, mark: &str) {
    page.wait_until(&format!(
        "[...document.querySelectorAll('.message')].some((message) => \
         message.querySelector('.text').textContent === {text:?} \
         && (message.querySelector('.trip')?.textContent ?? '') === {mark:?})"
    ));
}

fn wait_for_members(page: &mut Page, count: usize) {
    page.wait_until(&format!("document.querySelector('#count').textContent === '{count}'"));
    page.wait_until(&format!("document.querySelectorAll('#members li').length === {count}"));
}

#[test]
fn who_comes_late_reads_the_past_and_who_was_cut_off_misses_nothing() {
    let redis = Redis::start();
    let (east, west) = (start_with_memory("east", &redis), start_with_memory("west", &redis));
    let browser = Browser::start();
    let mut ann = browser.open(&format!("http://{}/memory", east.address));
    wait_for_node(&mut ann, "east");
    wait_for_members(&mut ann, 1);
    ann.type_into("#name", "Ann");
    let text = "<img src=x onerror=alert(1)> & \"hello\"";
    ann.type_into("#text", text);
    wait_for_line(&mut ann, text, "");
    ann.wait_until("document.querySelector('.message .you').textContent === ' (you)'");

    let mut bob = browser.open(&format!("http://{}/memory", west.address));
    wait_for_node(&mut bob, "west");
    wait_for_line(&mut bob, text, "from history");
    wait_for_members(&mut ann, 2);
    wait_for_members(&mut bob, 2);
    bob.type_into("#name", "Bob");
    bob.type_into("#text", "hello east");
    wait_for_line(&mut ann, "hello east", "");
    ann.wait_until("document.querySelectorAll('#members li')[1].firstChild.textContent === 'Bob'");

    // Ann is cut off; Bob and somebody on her own page go on talking.
    ann.value("document.querySelector('#plug').click()");
    ann.wait_until("document.querySelector('#state').textContent === 'unplugged'");
    bob.type_into("#text", "while you were away");
    ann.wait_until("/[3-9] missed so far/.test(document.querySelector('#log').textContent)");
    ann.value("document.querySelector('#plug').click()");
    wait_for_line(&mut ann, "while you were away", "recovered");
    let log = "document.querySelector('#log').textContent";
    ann.wait_until(&format!(r"/Back again: missed ([0-9]+), recovered \1\./.test({log})"));
    let order =
        "[...document.querySelectorAll('.when > :last-child')].map((one) => one.textContent)";
    // What was under way to Bob at that moment arrives, too.
    wait_until("both saw all, in one order", || ann.value(order) == bob.value(order));
    assert!(ann.value(order).as_array().unwrap().len() >= 5);

    // A plain program on the same channel is heard, and who leaves is here no more.
    let mut program = west.join("demo:room");
    program.send_text("a plain program");
    for page in [&mut ann, &mut bob] {
        wait_for_line(page, "a plain program", "");
        assert_eq!(page.complaints(), [""; 0]);
    }
    assert_eq!(ann.value(order), bob.value(order));
    bob.command("Page.navigate", &serde_json::json!({ "url": "about:blank" }));
    wait_for_members(&mut ann, 1);
}

#[test]
fn a_node_without_channels_for_the_tab_says_what_to_configure() {
    let node = Node::start(&[]);
    let browser = Browser::start();
    let mut page = browser.open(&format!("http://{}/memory", node.address));
    page.wait_until("document.querySelector('pre')?.textContent.includes('name = \"demo\"')");

    let anonymous = "client.allow_anonymous_connect_without_token=true";
    let node = Node::start(&[anonymous]);
    let mut page = browser.open(&format!("http://{}/memory", node.address));
    page.wait_until("document.querySelector('pre')?.textContent.includes('name = \"demo\"')");
    assert_eq!(page.complaints(), [""; 0]);
}
