//! A headless Chromium, driven by the DevTools protocol: JSON messages over a WebSocket per page.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, ErrorKind},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use super::{PATIENCE, exchange, wait_until};

/// Where to look for a browser; the variable CHROMIUM names another one.
const PROGRAMS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// Without a window, without questions, without calling home.
const FLAGS: [&str; 13] = [
    "--headless",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--password-store=basic",
];

/// A running browser with a profile of its own; killed when dropped.
pub(crate) struct Browser {
    process: Child,
    address: SocketAddr,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = spawn(&profile);
        let mut address = None;
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while address.is_none() {
            let Some(Ok(line)) = lines.next() else { panic!("the browser ended:\n{said}") };
            let url = line.strip_prefix("DevTools listening on ws://");
            address = url.and_then(|url| url.split('/').next()?.parse().ok());
            said = said + &line + "\n";
        }
        // Its further complaints must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.unwrap(), _profile: profile }
    }

    /// Opens `url` in a page.
    pub(crate) fn open(&self, url: &str) -> Page {
        let request = "PUT /json/new?about:blank HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let target: Value = serde_json::from_str(&exchange(self.address, request).body).unwrap();
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = target["webSocketDebuggerUrl"].as_str().unwrap();
        let socket = tungstenite::client(address, stream).unwrap().0;
        let mut page = Page { socket, commands: 0, complaints: Vec::new() };
        for domain in ["Page", "Runtime", "Log"] {
            page.command(&format!("{domain}.enable"), &json!({}));
        }
        page.command("Page.navigate", &json!({ "url": url }));
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(profile: &TempDir) -> Child {
    let mut folder = OsString::from("--user-data-dir=");
    folder.push(profile.path());
    let named = env::var_os("CHROMIUM").into_iter();
    for program in named.chain(PROGRAMS.map(OsString::from)) {
        let mut command = Command::new(&program);
        command.args(FLAGS).arg(&folder).arg("about:blank");
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox"); // which root cannot have
        }
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(process) => return process,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", program.display()),
        }
    }
    panic!(
        "this test needs Chromium or Chrome: install it (Debian: apt-get install chromium; macOS: \
         brew install --cask chromium), or name it by CHROMIUM=FILE"
    );
}

/// A page of the browser.
pub(crate) struct Page {
    socket: WebSocket<TcpStream>,
    commands: u64,
    complaints: Vec<String>,
}

impl Page {
    /// What scripts threw and the browser complained about since the last call.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.value("0");
        std::mem::take(&mut self.complaints)
    }

    /// The value of an expression.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let result = self.command("Runtime.evaluate", &parameters);
        assert_eq!(result["exceptionDetails"], Value::Null, "{expression}");
        result["result"]["value"].clone()
    }

    /// Brings the page to the front and waits until an expression is true.
    pub(crate) fn wait_until(&mut self, expression: &str) {
        self.command("Page.bringToFront", &json!({}));
        wait_until(&format!("in the page: {expression}"), || self.value(expression) == true);
    }

    /// Types `text` into the field and presses Enter.
    pub(crate) fn type_into(&mut self, field: &str, text: &str) {
        self.command("Page.bringToFront", &json!({}));
        self.value(&format!("document.querySelector({field:?}).select()"));
        self.command("Input.insertText", &json!({ "text": text }));
        for kind in ["keyDown", "keyUp"] {
            let enter = json!({
                "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13,
                "text": "\r",
            });
            self.command("Input.dispatchKeyEvent", &enter);
        }
    }

    /// Sends a command and returns its result; hears complaints meanwhile.
    pub(crate) fn command(&mut self, method: &str, parameters: &Value) -> Value {
        self.commands += 1;
        let command = json!({ "id": self.commands, "method": method, "params": parameters });
        self.socket.send(Message::text(command.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == self.commands {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, event: &Value) {
        let parameters = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &parameters["exceptionDetails"],
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => parameters,
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                &parameters["entry"]["text"]
            }
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }
}
