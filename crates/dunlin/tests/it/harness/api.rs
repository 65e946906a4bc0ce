//! Calls of the HTTP API, with the key that the tests use.

use serde_json::Value;

use super::{Node, exchange, http::Response};

/// The key of the nodes that are started with [`KEY_SETTING`].
pub(crate) const KEY: &str = "k3y";

/// Lets those who know [`KEY`] call the API.
pub(crate) const KEY_SETTING: &str = "http_api.key=k3y";

impl Node {
    /// `POST path` with these header lines, each with its line end, and this body.
    pub(crate) fn post(&self, path: &str, headers: &str, body: &str) -> Response {
        let length = body.len();
        exchange(
            self.address,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n{headers}\r\n{body}"
            ),
        )
    }

    /// What the API answers a call of `method` with this body.
    pub(crate) fn call(&self, method: &str, body: &str) -> Value {
        let response = self.post(&format!("/api/{method}"), &format!("X-API-Key: {KEY}\r\n"), body);
        assert_eq!(response.status, 200, "{method} {body}: {response:?}");
        serde_json::from_str(&response.body).unwrap()
    }

    /// The result of a call that goes well.
    #[track_caller]
    pub(crate) fn result(&self, method: &str, body: &str) -> Value {
        let mut answer = self.call(method, body);
        assert!(answer.get("result").is_some(), "{method} {body}: {answer}");
        answer["result"].take()
    }

    /// The code of the error of a call that does not.
    #[track_caller]
    pub(crate) fn error(&self, method: &str, body: &str) -> u64 {
        let answer = self.call(method, body);
        answer["error"]["code"].as_u64().unwrap_or_else(|| panic!("{method} {body}: {answer}"))
    }
}
