//! As much of RESP2 as it takes to tell a Redis what to suffer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    List(Vec<Self>),
    Nothing,
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

/// A connection to one server.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// `patience` bounds the dial and each answer.
    pub(crate) fn dial(address: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command and waits for its answer; an error is one.
    pub(crate) fn call(&mut self, words: &[&str]) -> Result<Value> {
        self.send(words)?;
        self.read(DEPTH_MAX).with_context(|| words.join(" "))
    }

    /// Sends a command whose answer is read later or never.
    pub(crate) fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        Ok(self.stream.get_mut().write_all(command.as_bytes())?)
    }

    fn read(&mut self, depth: usize) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let kind = line.get(..1).context("the server closed the connection")?;
        let rest = &line[1..];
        Ok(match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => bail!("{rest}"),
            ":" => Value::Number(rest.parse()?),
            "$" | "*" if rest == "-1" => Value::Nothing,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Value::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                ensure!(depth > 0, "an answer too deep");
                let elements = (0..rest.parse::<usize>()?).map(|_| self.read(depth - 1));
                Value::List(elements.collect::<Result<_>>()?)
            }
            _ => bail!("not RESP: {line}"),
        })
    }
}

/// One command on a connection of its own.
pub(crate) fn call(address: SocketAddr, words: &[&str]) -> Result<Value> {
    Client::dial(address, PATIENCE)?.call(words)
}

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn answers_of_every_kind_are_read() {
        let answer = "*5\r\n+OK\r\n:-7\r\n$-1\r\n$4\r\na\r\nb\r\n*1\r\n$0\r\n\r\n-ERR no\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut command = [0; 21];
            stream.read_exact(&mut command).unwrap();
            assert_eq!(&command, b"*2\r\n$3\r\nGET\r\n$2\r\nab\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            // Stays open until the client goes.
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.read(&mut [0; 64]);
        });
        let mut client = Client::dial(address, PATIENCE).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = Value::List(vec![
            text("OK"),
            Value::Number(-7),
            Value::Nothing,
            text("a\r\nb"),
            Value::List(vec![text("")]),
        ]);
        assert_eq!(client.call(&["GET", "ab"]).unwrap(), expected);
        let error = client.call(&["GET", "ab"]).unwrap_err();
        assert_eq!(format!("{error:#}"), "GET ab: ERR no");
    }
}
