//! A centrifuge server over tungstenite (so that our client meets one it does not know): JSON,
//! history without end, recovery. It makes one kind of mistake, now and then.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

/// What goes wrong with every so manieth delivery or recovery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mistake {
    Nothing,
    /// A delivery is left out.
    Skip,
    /// A delivery comes twice.
    Repeat,
    /// A recovery leaves out what was missed, and says it did not.
    Pretend,
    /// A recovery is refused, in so many words: not a mistake.
    Refuse,
    /// A publication is acknowledged and thrown away.
    Forget,
}

/// The channels of a server: all publications since its start.
type Channels = Mutex<HashMap<String, Vec<Value>>>;

#[derive(Clone)]
struct Server {
    channels: Arc<Channels>,
    mistake: Mistake,
    chances: Arc<AtomicUsize>,
}

/// Serves until the process ends.
pub(crate) fn serve(mistake: Mistake) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { channels: Arc::default(), mistake, chances: Arc::default() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = server.clone();
            thread::spawn(move || server.talk(stream.unwrap()));
        }
    });
    address
}

impl Server {
    /// One connection: what its client asks, and whatever is new in its channels.
    fn talk(&self, stream: TcpStream) {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut places: HashMap<String, usize> = HashMap::new();
        say(&mut socket, &[json!({})]);
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => {
                    let commands = text.split('\n').map(|line| serde_json::from_str(line).unwrap());
                    let replies: Vec<Value> =
                        commands.filter_map(|command| self.answer(&command, &mut places)).collect();
                    say(&mut socket, &replies);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if crate::faulty::is_timeout(error.kind()) => {}
                Err(_) => return,
            }
            say(&mut socket, &self.news(&mut places));
        }
    }

    fn answer(&self, command: &Value, places: &mut HashMap<String, usize>) -> Option<Value> {
        let id = command.get("id")?;
        let mut channels = self.channels.lock().unwrap();
        let channel = |asked: &Value| asked["channel"].as_str().unwrap().to_owned();
        if let Some(asked) = command.get("publish") {
            if !self.errs(Mistake::Forget) {
                let publications = channels.entry(channel(asked)).or_default();
                let offset = publications.len() + 1;
                publications.push(json!({"data": asked["data"], "offset": offset}));
            }
            return Some(json!({"id": id, "publish": {}}));
        }
        let Some(asked) = command.get("subscribe") else {
            return Some(json!({"id": id, "connect": {"client": "c", "version": "0"}}));
        };
        let publications = channels.entry(channel(asked)).or_default();
        let top = publications.len();
        places.insert(channel(asked), top);
        let recovering = asked["recover"] == true;
        let recovered = recovering && !self.errs(Mistake::Refuse);
        let from = asked["offset"].as_u64().unwrap_or(0) as usize;
        let missed = &publications[if recovered { from } else { top }..];
        let missed = if recovered && self.errs(Mistake::Pretend) { &[] } else { missed };
        Some(json!({"id": id, "subscribe": {
            "recoverable": true, "positioned": true, "epoch": "e", "was_recovering": recovering,
            "recovered": recovered, "offset": if recovered { from } else { top },
            "publications": missed,
        }}))
    }

    fn news(&self, places: &mut HashMap<String, usize>) -> Vec<Value> {
        let channels = self.channels.lock().unwrap();
        let mut pushes = Vec::new();
        for (channel, place) in places {
            for publication in &channels[channel][*place..] {
                let push = json!({"push": {"channel": channel, "pub": publication}});
                if self.errs(Mistake::Repeat) {
                    pushes.push(push.clone());
                }
                if !self.errs(Mistake::Skip) {
                    pushes.push(push);
                }
            }
            *place = channels[channel].len();
        }
        pushes
    }

    /// Whether it is time for this mistake.
    fn errs(&self, mistake: Mistake) -> bool {
        self.mistake == mistake && self.chances.fetch_add(1, Ordering::Relaxed) % 7 == 6
    }
}

/// What became of the connection shows in the client's report.
fn say(socket: &mut WebSocket<TcpStream>, replies: &[Value]) {
    if !replies.is_empty() {
        let lines: Vec<String> = replies.iter().map(Value::to_string).collect();
        let _ = socket.send(Message::text(lines.join("\n")));
    }
}
