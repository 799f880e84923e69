//! A hub in this process, which behaves or misbehaves as a test says.
#![allow(dead_code)] // Each test program uses a part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What is answered.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection ends.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
        }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.into();
        self
    }
}

/// A server and what it was asked so far.
pub struct Mirror {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Mirror {
    pub fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (log.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { url, log }
    }

    /// A hub with one repository `o/n` of these files; `change` has the last word on every answer.
    pub fn hub(
        files: &[(&str, &[u8])],
        change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let files: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
            .collect();
        Self::new(move |request| change(request, plain(request, &files)))
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok();
    let mut words = line.split_whitespace().map(String::from);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return;
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok();
        match line.trim().split_once(':') {
            Some((name, value)) => {
                _ = headers.insert(name.to_ascii_lowercase(), value.trim().into())
            }
            None => break,
        }
    }
    let request = Request {
        method,
        path,
        headers,
    };
    log.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length")
    {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = reader.into_inner();
    stream.write_all(format!("{head}\r\n").as_bytes()).ok();
    if request.method != "HEAD" {
        stream
            .write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])
            .ok();
    }
    stream.flush().ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    // Read what is left, so that the client sees an end and no reset.
    stream.read_to_end(&mut Vec::new()).ok();
}

/// The answer of a hub that behaves.
fn plain(request: &Request, files: &BTreeMap<String, Vec<u8>>) -> Reply {
    if request.path.starts_with("/api/models/o/n/revision/") {
        let names = files.keys().map(|name| {
            format!(
                r#"{{"rfilename":{}}}"#,
                serde_json::Value::from(name.as_str())
            )
        });
        let names = names.collect::<Vec<_>>().join(",");
        let body =
            format!(r#"{{"sha":"{COMMIT}","cardData":{{"license":"mit"}},"siblings":[{names}]}}"#);
        return Reply::new(200).body(body.as_bytes());
    }
    let file = request
        .path
        .strip_prefix(&format!("/o/n/resolve/{COMMIT}/"));
    let Some(bytes) = file.and_then(|file| files.get(file)) else {
        return Reply::new(404);
    };
    let reply = Reply::new(200)
        .with("ETag", format!("\"{}\"", sha256(bytes)))
        .with("X-Repo-Commit", COMMIT);
    let range = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|from| from.parse::<usize>().ok()) {
        Some(from) if from >= bytes.len() => Reply::new(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply {
                status: 206,
                ..reply.with("Content-Range", range).body(&bytes[from..])
            }
        }
        None => reply.body(bytes),
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
