//! A local HTTP server that plays one scripted answer after the other and keeps what it was asked. Also badly: it can hang up,
//! stall, and promise more than it sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What to answer.
#[derive(Clone)]
pub(crate) enum Play {
    /// This status and body.
    Answer(u16, String),
    /// The same with further header lines.
    With(u16, &'static str, String),
    /// Read the request, then hang up.
    HangUp,
    /// Read the request, then say nothing until the other side gives up.
    Stall,
    /// Promise a body and send only a part of it.
    Truncate(u16, String),
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// Its header lines.
    pub(crate) headers: Vec<String>,
    /// The body.
    pub(crate) body: String,
    /// Which connection it came on.
    pub(crate) connection: usize,
}

/// The running server.
pub(crate) struct Server {
    /// Where it listens: `http://127.0.0.1:…/`.
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
    address: std::net::SocketAddr,
}

impl Server {
    /// Plays these answers, in this order; then hangs up on everyone.
    pub(crate) fn play(script: Vec<Play>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(Mutex::new(false));
        let script = Arc::new(Mutex::new(script.into_iter()));
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                for (connection, stream) in listener.incoming().enumerate() {
                    if *stop.lock().unwrap() {
                        return;
                    }
                    let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                    std::thread::spawn(move || serve(stream.unwrap(), connection, &seen, &script));
                }
            }
        });
        Server { url: format!("http://{address}/"), seen, stop, thread: Some(thread), address }
    }

    /// What it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<std::vec::IntoIter<Play>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader, connection) {
        seen.lock().unwrap().push(request);
        let next = script.lock().unwrap().next();
        let sent = match next {
            None | Some(Play::HangUp) => return,
            Some(Play::Stall) => {
                let _ = reader.read(&mut [0]);
                return;
            }
            Some(Play::Answer(status, body)) => answer(&mut writer, status, "", &body, body.len()),
            Some(Play::With(status, headers, body)) => {
                answer(&mut writer, status, headers, &body, body.len())
            }
            Some(Play::Truncate(status, body)) => {
                let _ = answer(&mut writer, status, "", &body[..body.len() / 2], body.len());
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(
    writer: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &str,
    length: usize,
) -> std::io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let length = lines
        .iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = lines.remove(0);
    Some(Seen {
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        headers: lines,
        body: String::from_utf8(body).unwrap(),
        connection,
    })
}
