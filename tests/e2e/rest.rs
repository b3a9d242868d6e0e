//! kube-apiserver's API for Secrets as a client library speaks it: JSON over HTTP, and watches that are streams of lines.

use std::io;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::http;
use crate::common::process::Process;
use crate::kube::base64;

/// Where the Secrets of the tests are.
pub const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A `kubectl proxy`, which adds the credentials. Stopped when dropped.
#[derive(Debug)]
pub struct Rest {
    _process: Process,
    api: Api,
}

/// The API behind one. Cheap to copy, and of use for as long as that lives.
#[derive(Debug, Clone)]
pub struct Api {
    endpoint: String,
}

impl Rest {
    pub fn new(mut process: Process) -> Self {
        let address = process.wait_for("the address", |output| {
            let line = output.lines().next()?;
            line.strip_prefix("Starting to serve on ").map(str::to_owned)
        });
        Self {
            _process: process,
            api: Api {
                endpoint: format!("http://{address}"),
            },
        }
    }

    pub fn api(&self) -> Api {
        self.api.clone()
    }
}

impl Api {
    /// The answer's status and object.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = http::request(method, &self.endpoint, path, body)
            .await
            .expect("an answer");
        let object = serde_json::from_str(&answer.body);
        (
            answer.status,
            object.unwrap_or_else(|error| panic!("{error}: {}", answer.body)),
        )
    }

    /// What is at `path`, which must be there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, object) = self.send("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {object}");
        object
    }

    /// Begins to watch at a resource version, with bookmarks, for so many seconds.
    pub async fn watch(&self, from: &str, seconds: u32) -> Events {
        let path =
            format!("{SECRETS}?watch=1&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds={seconds}");
        let address = self.endpoint.strip_prefix("http://").expect("a plain HTTP endpoint");
        let stream = TcpStream::connect(address).await.expect("kubectl proxy");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new());
        let answer = sender
            .send_request(request.expect("a request"))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
        Events {
            body: answer.into_body(),
            rest: Vec::new(),
        }
    }
}

/// The events of one watch.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    /// The next one; nothing at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = self
                .body
                .frame()
                .await?
                .map_err(io::Error::other)
                .expect("a living watch");
            self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

/// A Secret with one thing in it.
pub fn secret(name: &str, payload: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "data": {"payload": base64(payload)},
    })
}

/// The path of one Secret.
pub fn path(name: &str) -> String {
    format!("{SECRETS}/{name}")
}

/// The object's name.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// The object's resource version.
pub fn version(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str().expect("a version");
    version.parse().expect("a number")
}
