//! Keeps one registration at a real registrar and says how it is. It is no part of the product.
//!
//! ```text
//! cargo run -p sip --example register -- 127.0.0.1:5060 sip:me@example.com PASSWORD SECONDS ROUNDS
//! ```
//!
//! The user name is the address's user, and the realm its host. It ends well after that many good answers, and badly
//! with the first failure.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sip::digest::{Credentials, Secret};
use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
use sip::limits::MESSAGE_BYTES_MAX;
use sip::user_agent::register::{Registration, RegistrationConfig, RegistrationHealth};
use sip::{Flow, Instant, Keys, Source, Status, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [registrar, address, password, expires, rounds] = words.as_slice() else {
        return Err("usage: register REGISTRAR sip:USER@DOMAIN PASSWORD SECONDS ROUNDS".into());
    };
    let registrar: SocketAddr = registrar.parse()?;
    let (user, domain) = address.trim_start_matches("sip:").split_once('@').ok_or("an address has an @")?;
    let socket = UdpSocket::bind((registrar.ip(), 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let local = socket.local_addr()?;
    let listener = Listener { transport: Transport::Udp, local, sent_by: local.to_string() };
    let nanos = std::time::UNIX_EPOCH.elapsed()?.as_nanos();
    let mut unique = [0; 32];
    unique[..16].copy_from_slice(&nanos.to_le_bytes());
    let keys = Keys { shared: [1; 32], unique };
    let mut endpoint = Endpoint::new(Config::new(vec![listener]), &keys);
    let flow = Flow::udp(local, registrar);
    let start = start();
    let now = || Instant::from_epoch(start.elapsed());
    let config = RegistrationConfig {
        registrar: format!("sip:{domain}"),
        address: address.clone(),
        contacts: vec![format!("sip:{user}@{local}")],
        expires_s: expires.parse()?,
        credentials: Some(Credentials {
            username: user.to_owned(),
            password: Secret::new(password.as_bytes()),
            realm: Some(domain.to_owned()),
        }),
    };
    let mut registration =
        Registration::new(now(), &keys, config, format!("{nanos:x}"), format!("{:x}", nanos >> 8));
    let mut good = 0;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        if let Some(request) = registration.poll(now())? {
            println!("{:>8?} {}", now(), String::from_utf8_lossy(request.start_line()));
            endpoint.request(now(), request, flow)?;
        }
        match socket.recv_from(&mut buffer) {
            Ok((length, remote)) => {
                let source = Source { flow: Flow::udp(local, remote), is_known: true };
                endpoint.handle_input(now(), source, &buffer[..length]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        endpoint.handle_timeout(now());
        loop {
            match endpoint.poll_output() {
                Output::Transmit(transmit) => {
                    socket.send_to(&transmit.bytes, transmit.flow.remote)?;
                }
                Output::Event(Event::Response { response, .. }) => {
                    println!("{:>8?} {}", now(), String::from_utf8_lossy(response.start_line()));
                    if !response.status().is_some_and(Status::is_final) {
                        continue;
                    }
                    if let Some(again) = registration.handle_response(now(), &response, 0) {
                        endpoint.request(now(), again, flow)?;
                        continue;
                    }
                    match registration.health() {
                        RegistrationHealth::Registered { .. } => good += 1,
                        RegistrationHealth::Failed { status, .. } => {
                            return Err(format!("failed: {status:?}").into());
                        }
                        RegistrationHealth::Ended => return Ok(()),
                        RegistrationHealth::Unknown => {}
                    }
                    if good == rounds.parse::<u32>()? {
                        registration.end(now());
                    }
                }
                Output::Event(Event::TimedOut { .. }) => return Err("no answer".into()),
                Output::Event(_) => {}
                Output::Deadline(_) => break,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an example stands where the product has its clock")]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}
