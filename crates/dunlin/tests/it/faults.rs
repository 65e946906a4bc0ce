//! Redis is away: clients stay, publishes wait or are refused, and nothing gets lost in silence.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cli::{dunlin, stderr},
    harness::{Client, Flock, Listener, NodeCommand, Redis, check, get, publish, wait_until},
};

/// Publishes on all nodes while `fault` happens to Redis, and checks what everybody heard.
fn under_load(flock: &mut Flock, mut fault: impl FnMut(&mut Redis, &[Listener])) {
    let listeners: Vec<_> = flock.join("load", 4).into_iter().map(Listener::start).collect();
    let stop = AtomicBool::new(false);
    let mut sent = Vec::new();
    let mut redis = flock.redis.take().unwrap();
    let nodes = &flock.nodes;
    thread::scope(|scope| {
        let publishers: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let stop = &stop;
                scope.spawn(move || publish(node.address, &number.to_string(), stop))
            })
            .collect();
        let began_at = Instant::now();
        wait_until("everybody hears", || listeners.iter().all(|l| l.heard_since(began_at) > 0));
        fault(&mut redis, &listeners);
        let again_at = Instant::now() + Duration::from_millis(200);
        // All of them: who leaves while its last messages may yet be refused cannot be told.
        wait_until("everybody hears everybody again", || {
            listeners.iter().all(|listener| listener.heard_since(again_at) == nodes.len())
        });
        stop.store(true, Ordering::Relaxed);
        for publisher in publishers {
            sent.extend(publisher.join().unwrap());
        }
    });
    flock.redis = Some(redis);
    wait_until("all are ready", || nodes.iter().all(|node| node.status_of("/ready") == 200));
    nodes[0].join("load").send_text("end");
    for listener in listeners {
        check(&listener.end(), &sent);
    }
    for node in nodes {
        node.wait_until_empty();
    }
}

#[test]
fn a_restart_of_redis_under_load_loses_no_client_and_nothing_in_silence() {
    let mut flock = Flock::redis(2, &["redis.queue_age=30s"]);
    under_load(&mut flock, |redis, listeners| {
        for _ in 0..3 {
            redis.stop();
            // The time without Redis.
            thread::sleep(Duration::from_millis(500));
            redis.start_again();
            let returned_at = Instant::now();
            wait_until("deliveries go on", || {
                listeners.iter().all(|listener| listener.heard_since(returned_at) > 0)
            });
            let took = returned_at.elapsed();
            assert!(took < Duration::from_secs(1), "deliveries went on after {took:?}");
        }
    });
    for node in &flock.nodes {
        let metrics = node.metrics();
        assert!(metrics.sum("dunlin_redis_reconnects_total") >= 6.0);
        assert!(metrics.sum("dunlin_redis_away_seconds_total") >= 1.5);
    }
}

#[test]
fn publishers_that_cannot_wait_any_longer_are_told() {
    let mut flock = Flock::redis(2, &["redis.queue_age=300ms"]);
    under_load(&mut flock, |redis, _| {
        redis.stop();
        // The time without Redis.
        thread::sleep(Duration::from_millis(1500));
        redis.start_again();
    });
    for node in &flock.nodes {
        let metrics = node.metrics();
        assert!(metrics.closed("broker_lost") + metrics.closed("publish_unknown") >= 1.0);
    }
}

#[test]
fn links_that_are_killed_come_back_and_clients_do_not_notice() {
    let flock = Flock::redis(2, &[]);
    let subscribers = flock.join("load", 4);
    for (reconnects, kind) in [(1.0, "pubsub"), (3.0, "normal"), (4.0, "pubsub")] {
        let mut admin = flock.redis.as_ref().unwrap().connect();
        let killed: usize =
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind]).query(&mut admin).unwrap();
        assert!(killed >= 2, "{kind}: {killed}");
        for node in &flock.nodes {
            wait_until("the link is back", || {
                node.metrics().sum("dunlin_redis_reconnects_total") == reconnects
            });
            wait_until("it is ready again", || node.status_of("/ready") == 200);
        }
    }
    let mut publisher = flock.node(0).join("load");
    publisher.send_text("still here");
    for mut subscriber in subscribers {
        assert_eq!(subscriber.receive_text(), "still here");
    }
}

#[test]
fn without_redis_a_node_says_so_and_takes_no_new_clients() {
    let mut flock = Flock::redis(1, &["redis.queue_age=400ms"]);
    let mut subscriber = flock.node(0).join("known");
    let mut publisher = flock.node(0).join("known");
    flock.redis.as_mut().unwrap().stop();
    let node = flock.node(0);
    wait_until("it is not ready", || node.status_of("/ready") == 503);
    assert_eq!(node.status_of("/health"), 200);
    assert_eq!(node.metrics().sum("dunlin_redis_ready"), 0.0);
    for channel in ["known", "unknown"] {
        let refusal = Client::try_open(node.address, &format!("/ws/{channel}")).err().flatten();
        let refusal = refusal.expect("no 101");
        assert_eq!(refusal.status, 503);
        assert!(refusal.body.contains("\"broker_lost\""));
        let seconds: u32 = refusal.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds));
    }
    publisher.send_text("into the void");
    let (code, reason) = publisher.receive_close();
    assert_eq!((code, reason.as_str()), (1013, "broker away, try again later"));
    assert_eq!(node.metrics().sum("dunlin_redis_publishes_refused_total"), 1.0);

    flock.redis.as_mut().unwrap().start_again();
    let node = flock.node(0);
    wait_until("it is ready again", || node.status_of("/ready") == 200);
    let mut publisher = node.join("known");
    publisher.send_text("back");
    assert_eq!(subscriber.receive_text(), "back");
}

/// All links stand and pings are answered, and yet nothing is carried.
#[test]
fn a_redis_that_is_full_is_told_by_ready_in_its_words() {
    let flock = Flock::redis(1, &[]);
    let node = flock.node(0);
    let mut admin = flock.redis.as_ref().unwrap().connect();
    let mut maxmemory = |bytes: &str| {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes]).exec(&mut admin).unwrap();
    };
    maxmemory("1");
    wait_until("it is not ready", || node.status_of("/ready") == 503);
    let told = get(node.address, "/ready").body;
    assert!(told.contains("refuses what is published: OOM"), "{told}");
    assert_eq!(node.metrics().sum("dunlin_redis_ready"), 0.0);
    maxmemory("0");
    wait_until("it is ready again", || node.status_of("/ready") == 200);
}

#[test]
fn what_waits_for_redis_is_delivered_on_its_return_and_bounded_meanwhile() {
    let settings = ["redis.queue_age=60s", "redis.queue_messages=10"];
    let mut flock = Flock::redis(2, &settings);
    let mut subscribers = flock.join("queue", 2);
    let mut patient = flock.node(0).join("queue");
    let mut greedy = flock.node(0).join("queue");
    flock.redis.as_mut().unwrap().stop();
    wait_until("it is not ready", || flock.node(0).status_of("/ready") == 503);
    for number in 0..10 {
        patient.send_text(&format!("{number}"));
    }
    wait_until("all wait", || flock.node(0).metrics().sum("dunlin_publications_in_total") == 10.0);
    greedy.send_text("one too many");
    assert_eq!(greedy.receive_close().0, 1013);
    flock.redis.as_mut().unwrap().start_again();
    for client in subscribers.iter_mut().chain([&mut patient]) {
        for number in 0..10 {
            assert_eq!(client.receive_text(), format!("{number}"));
        }
    }
}

#[test]
fn a_redis_that_hangs_counts_as_away() {
    let flock = Flock::redis(1, &["redis.queue_age=60s"]);
    let node = flock.node(0);
    let mut client = node.join("hang");
    let pid = flock.redis.as_ref().unwrap().pid();
    let signal = |signal| kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    wait_until("it is not ready", || node.status_of("/ready") == 503);
    client.send_text("patience");
    signal(Signal::CONT);
    assert_eq!(client.receive_text(), "patience");
}

/// Runs a node that cannot start; returns what it said.
fn refused(settings: &[&str]) -> String {
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--log-format", "text"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = dunlin(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    stderr(&output).to_owned()
}

#[test]
fn a_redis_that_will_not_do_is_named_with_the_reason() {
    let redis = Redis::with_password(Some("right-one"));
    let port = redis.port();
    let old = fake_redis(|command| match command.contains("HELLO") {
        true => b"-ERR unknown command `HELLO`, with args beginning with: `3`, `hunter2`\r\n",
        false => b"-ERR\r\n",
    });
    let six = fake_redis(|command| match command {
        hello if hello.contains("HELLO") => b"%1\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n",
        info if info.contains("INFO") => b"$15\r\nrun_id:0123abcd\r\n",
        script if script.contains("EVAL") => b"-ERR Error compiling script, unexpected '#'\r\n",
        _ => b"$6\r\ndunlin\r\n",
    });
    let not_redis = fake_redis(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, sentence) in [
        (format!("redis://127.0.0.1:{nobody}"), "cannot be reached: "),
        ("redis://no-such-host.invalid:6379".to_owned(), "cannot be reached: "),
        ("redis+unix:///nowhere/redis.sock".to_owned(), "cannot be reached: "),
        (format!("redis://:hunter2@127.0.0.1:{port}"), "does not accept the user name or password"),
        (
            format!("redis://someone:hunter2@127.0.0.1:{port}"),
            "does not accept the user name or password",
        ),
        (format!("redis://127.0.0.1:{port}"), "wants a password, and the url has none"),
        (format!("redis://:hunter2@127.0.0.1:{old}"), "is too old: it has no HELLO"),
        (format!("redis://:hunter2@127.0.0.1:{six}"), "calls itself version 6.2.14"),
        (format!("redis://:hunter2@127.0.0.1:{not_redis}"), "does not speak the redis protocol"),
        (format!("rediss://:hunter2@127.0.0.1:{not_redis}"), "failed the tls handshake"),
    ] {
        let said = refused(&[&format!("redis.url={url}"), "log.level=trace"]);
        assert!(said.contains(sentence), "{url}: {said}");
        let address = url.replace(":hunter2@", "").replace("someone", "");
        assert!(said.contains(&format!("redis at {address} ")), "{url}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("right-one"), "{said}");
    }
}

#[test]
fn a_password_is_used_and_never_shown() {
    let mut redis = Redis::with_password(Some("s3cret-word"));
    let settings = [&format!("redis.url={}", redis.url())[..], "log.level=trace"];
    let mut node = NodeCommand::new().set(&settings).start();
    let mut client = node.join("secret");
    client.send_text("hello");
    assert_eq!(client.receive_text(), "hello");
    redis.stop();
    node.wait_for_log("redis closed the connection");
    let page = get(node.address, "/metrics").body;
    redis.start_again();
    wait_until("it is ready again", || node.status_of("/ready") == 200);
    assert!(!node.log().contains("s3cret-word") && !page.contains("s3cret-word"));
}

#[test]
fn a_node_waits_at_its_start_for_a_redis_that_comes() {
    let mut redis = Redis::start();
    redis.stop();
    let settings = [&format!("redis.url={}", redis.url())[..], "redis.wait=2m"];
    let mut node = NodeCommand::new().set(&settings).spawn();
    node.wait_for_log("waiting: redis cannot be reached");
    redis.start_again();
    node.wait_for_log("listening on http://");
    drop(node);

    redis.stop();
    let said = refused(&[settings[0], "redis.wait=300ms"]);
    assert!(said.contains("waiting: redis") && said.contains("cannot be reached"), "{said}");
    // What waiting cannot mend is not waited for.
    let redis = Redis::with_password(Some("x"));
    let began_at = Instant::now();
    refused(&[&format!("redis.url=redis://127.0.0.1:{}", redis.port()), "redis.wait=2m"]);
    assert!(began_at.elapsed() < Duration::from_secs(30));
}

/// Answers everything that is said to it on one port.
fn fake_redis(answer: impl Fn(&str) -> &'static [u8] + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut command = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut command) {
                let command = String::from_utf8_lossy(&command[..length]);
                if stream.write_all(answer(&command)).is_err() {
                    break;
                }
            }
        }
    });
    port
}
