//! The command line as its users and their scripts see it: texts and exit codes.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Output},
    thread,
};

/// Runs the built program in an environment without settings.
pub(crate) fn dunlin(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dunlin")).args(arguments).env_clear().output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    for (arguments, code) in [
        (&["--no-such-flag"][..], 64),
        (&["no-such-verb"], 64),
        (&["--set", "novalue"], 64),
        (&["genconfig", "--listen", "x"], 64),
        (&["--help"], 0),
        (&["help", "serve"], 0),
        (&["--version"], 0),
    ] {
        let output = dunlin(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn verbs_print_what_they_are_for() {
    let version = concat!("dunlin ", env!("CARGO_PKG_VERSION"), "\n");
    for (arguments, expected) in [
        (&["version"][..], version),
        (&["--version"], version),
        (&["completions", "bash"], "complete -F _dunlin"),
        (&["completions", "zsh"], "#compdef dunlin"),
        (&["man"], ".TH dunlin 1"),
        (&["--help"], "check-config"),
        (&["help", "healthcheck"], "--url"),
    ] {
        let output = dunlin(arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(stdout(&output).contains(expected), "{arguments:?}: {}", stdout(&output));
    }
}

/// Answers one request with `status` and returns its address.
fn answer_once(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        let request = str::from_utf8(&request[..length]).unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    address
}

#[test]
fn healthcheck_is_0_for_200_and_1_otherwise() {
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 1), ("no status", 1)] {
        let output = dunlin(&["healthcheck", "--listen", &answer_once(status)]);
        assert_eq!(output.status.code(), Some(code), "{status}: {}", stderr(&output));
    }
    let url = format!("http://{}/health", answer_once("200 OK"));
    assert!(dunlin(&["healthcheck", "--url", &url]).status.success());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(dunlin(&["healthcheck", "--listen", &nobody]).status.code(), Some(1));
}
