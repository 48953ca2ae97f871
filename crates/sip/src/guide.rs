//! SIP in one sitting: a call, message by message.
//!
//! # Who is who
//!
//! A **user agent** begins and answers calls: a telephone, a carrier's gateway, a voice agent. A **proxy** stands in
//! between and passes messages on; it decides where a call goes, and takes no part in the conversation. Audio does
//! not come this way at all: SIP only carries the two sides' wishes about it (their SDP), as a letter carries its
//! content.
//!
//! # A message
//!
//! Text, like HTTP. A request names a method and a URI; a response has a status. Headers follow, an empty line, and a
//! body.
//!
//! ```text
//! INVITE sip:support@192.0.2.1 SIP/2.0                              what is wanted, and of whom
//! Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK74                 the way back, one line for each hop
//! Max-Forwards: 70                                                  how many more hops it may take
//! From: <sip:alice@example.com>;tag=9fx                             who calls
//! To: <sip:support@192.0.2.1>                                       who is called; the callee adds its tag
//! Call-ID: 3848276298220188511@192.0.2.10                           the same in all messages of this call
//! CSeq: 1 INVITE                                                    the same in a request and its responses
//! Contact: <sip:alice@192.0.2.10:5060>                              where to send what comes later, directly
//! ```
//!
//! [`crate::Message`] keeps it as the bytes that came and an index of its lines; [`crate::header`] has the views.
//!
//! # The ladder
//!
//! Alice calls `support`; our edge knows that today this is Bob. Read from the top; each line is one message.
//!
//! ```text
//!    alice                 edge                  bob
//!      │  INVITE ──────────► │                     │    1  will you talk to me?
//!      │                     │  INVITE ──────────► │    2  passed on: our Via on top, one hop less, Record-Route
//!      │                     │ ◄─────── 180 Ringing│    3  the phone rings; the same way back, each takes its Via off
//!      │ ◄─────── 180 Ringing│                     │
//!      │                     │ ◄──────────── 200 OK│    4  taken: Bob's SDP is in it
//!      │ ◄──────────── 200 OK│                     │
//!      │  ACK ─────────────► │  ACK ─────────────► │    5  heard; a request of its own, by the Route
//!      │ ◄═══════════════ audio, past us ════════► │
//!      │  BYE ─────────────► │  BYE ─────────────► │    6  goodbye
//!      │ ◄──────────── 200 OK│ ◄──────────── 200 OK│
//! ```
//!
//! **1 → transactions.** Datagrams get lost, so Alice sends her INVITE again after 500 ms, after a second, and so on,
//! until she hears anything. She and the edge each keep a *transaction* for it ([RFC 3261 §17]): a small machine that
//! repeats what may be lost and swallows what was repeated. There are four of them: for INVITE and for the rest, as
//! client and as server. If the edge had nothing to say for 200 ms it would send `100 Trying`, only to stop the
//! repetitions. The `branch` in the top Via is the transaction's name.
//!
//! **2 → proxying.** The edge copies the request, replaces the URI by Bob's, counts Max-Forwards down, puts its Via
//! on top ([RFC 3261 §16.6]). Its `Record-Route` says: send what comes later by me. Each phone keeps that (Alice in
//! reverse order, since the nearest stands last for her) and writes it as `Route` into its later requests; `lr` in it
//! says that a router reads the Route and leaves the request-URI alone.
//!
//! **3, 4 → dialogs.** Bob's answers bear his tag in To. The two tags and the Call-ID name the *dialog*
//! ([`crate::dialog`]): what both keep in mind until goodbye. The transaction is over with the 200; the dialog begins.
//!
//! **5, 6 → no memory.** ACK and BYE carry `Route: <sip:edge;lr;sb=…>`, which the edge wrote itself, signed. It says
//! all that is needed to pass them on, so the edge needs no memory of the call once it is up (it still knows
//! repetitions for half a minute). Restart it, or let another node with the same [`crate::Keys::shared`] take its
//! place: the BYE arrives all the same.
//!
//! One thing surprises everyone at first: an ACK for a *2xx* is a request of its own that travels from end to end,
//! while the ACK for any other final answer only goes one hop and belongs to the INVITE's transaction.
//!
//! # When somebody does not answer
//!
//! The edge tries the targets of its [`crate::proxy::Plan`] one after another. Here nobody is at the first address, and
//! Bob lets it ring for longer than his three seconds. The number is when the first hop sent the message (each hop
//! takes 10 ms); `bob → edge → alice` is a message that was passed on.
//!
//! ```text
//! 0      alice → edge → nobody: INVITE
//! 210    edge → alice: 100 Trying                 nothing to say yet: so Alice need not ask again
//! 510    edge → nobody: INVITE                    repeated: datagrams get lost
//! 2010   edge → bob: INVITE                       two seconds of silence: the next one
//! 3000   bob → edge → alice: 180 Ringing
//! 5230   edge → bob: CANCEL                       he has rung for long enough
//! 5230   edge → carol: INVITE
//! 5240   bob → edge: 200 OK (CANCEL)              a CANCEL is a request and has an answer of its own
//! 5240   bob → edge: 487 Request Terminated       and so the INVITE ends that it was for
//! 5250   edge → bob: ACK                          one hop, for what was no 2xx
//! 7000   carol → edge → alice: 180 Ringing
//! 8000   carol → edge → alice: 200 OK             the first 2xx wins
//! 8020   alice → edge → carol: ACK
//! ```
//!
//! The silent one is still sent its INVITE for half a minute (RFC 3261 wants it so): if it was only its answer that got
//! lost, the next one brings it the CANCEL. A late 200 of Bob's, on its way as the CANCEL was sent, would win all the
//! same while Carol only rings: a phone that was picked up is worth more than a plan, and Carol gets the CANCEL.
//!
//! # When a CANCEL and a 200 cross
//!
//! Alice hangs up; in the same moment Bob picks up.
//!
//! ```text
//! 900    alice → edge: CANCEL
//! 910    edge → alice: 200 OK (CANCEL)
//! 910    edge → bob: CANCEL
//! 910    edge → alice: 487 Request Terminated     her INVITE has its end, whatever Bob does
//! 915    bob → edge: 200 OK (INVITE)              too late
//! 920    bob → edge: 200 OK (CANCEL)
//! 920    alice → edge: ACK
//! 925    edge → bob: ACK                          his 2xx must be acknowledged by somebody
//! 925    edge → bob: BYE                          and his call ended: Alice has left
//! 935    bob → edge: 200 OK (BYE)
//! ```
//!
//! Between two phones without a proxy Alice would get the 200 and say ACK and BYE herself. All of these ladders, and more,
//! are played in `tests/it/calls.rs`; `tests/it/story.rs` says how to write one.
//!
//! # The same, running
//!
//! Two phones and a proxy, and a network of twenty lines. Nothing here waits: time is a number.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
//! use sip::proxy::{Exhausted, Failover, Plan, Target};
//! use sip::user_agent::{CallEvent, CallOutput, Invitation, UserAgent};
//! use sip::{Flow, Instant, Keys, Message, Source, Transmit, Transport};
//!
//! let at = |host: &str| -> SocketAddr { format!("{host}:5060").parse().expect("an address") };
//! let (alice_at, edge_at, bob_at) = (at("192.0.2.10"), at("192.0.2.1"), at("192.0.2.20"));
//! let config = |local: SocketAddr| {
//!     Config::new(vec![Listener { transport: Transport::Udp, local, sent_by: local.to_string() }])
//! };
//! // Secrets come from outside. These are for an example.
//! let keys = |node| Keys { shared: [7; 32], unique: [node; 32] };
//! let mut alice = UserAgent::new(config(alice_at), &keys(1), format!("sip:alice@{alice_at}"));
//! let mut bob = UserAgent::new(config(bob_at), &keys(2), format!("sip:bob@{bob_at}"));
//! let mut edge = Endpoint::new(config(edge_at), &keys(3));
//!
//! let mut now = Instant::ZERO;
//! let call = alice.call(now, &Invitation {
//!     to: format!("sip:support@{edge_at}"),
//!     from: "sip:alice@example.com".into(),
//!     flow: Flow::udp(alice_at, edge_at),
//!     sdp: b"v=0\r\n".to_vec(),
//!     credentials: None,
//!     ring_timeout: Duration::from_secs(30),
//! })?;
//!
//! let mut ladder: Vec<String> = Vec::new();
//! for _ in 0..20 {
//!     now = now + Duration::from_millis(10);
//!     let mut wire: Vec<Transmit> = Vec::new();
//!     // Everyone says what they have to say, and decides what they are asked.
//!     loop {
//!         match alice.poll_output(now) {
//!             CallOutput::Transmit(transmit) => wire.push(transmit),
//!             CallOutput::Event(CallEvent::Up { call, .. }) => alice.hang_up(now, call)?,
//!             CallOutput::Event(_) => {}
//!             CallOutput::Deadline(_) => break,
//!         }
//!     }
//!     loop {
//!         match bob.poll_output(now) {
//!             CallOutput::Transmit(transmit) => wire.push(transmit),
//!             CallOutput::Event(CallEvent::Incoming { call, .. }) => {
//!                 bob.ring(now, call)?;
//!                 bob.answer(now, call, b"v=0\r\n")?;
//!             }
//!             CallOutput::Event(_) => {}
//!             CallOutput::Deadline(_) => break,
//!         }
//!     }
//!     loop {
//!         match edge.poll_output() {
//!             Output::Transmit(transmit) => wire.push(transmit),
//!             Output::Event(Event::Request { id, source, .. }) => {
//!                 let target = Target::new(format!("sip:bob@{bob_at}"), Flow::udp(edge_at, bob_at));
//!                 edge.proxy(now, id, source, Plan {
//!                     targets: vec![target],
//!                     failover: Failover::default(),
//!                     exhausted: Exhausted::BestResponse,
//!                     record_route: true,
//!                 })?;
//!             }
//!             Output::Event(_) => {}
//!             Output::Deadline(_) => break,
//!         }
//!     }
//!     // The network: what one end sends to another arrives there.
//!     for Transmit { flow, bytes } in wire {
//!         let first = Message::parse(&bytes)?;
//!         let line = String::from_utf8_lossy(first.start_line()).into_owned();
//!         ladder.push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
//!         let source = Source { flow: Flow::udp(flow.remote, flow.local), is_known: true };
//!         match flow.remote {
//!             to if to == alice_at => alice.handle_input(now, source, &bytes),
//!             to if to == bob_at => bob.handle_input(now, source, &bytes),
//!             _ => edge.handle_input(now, source, &bytes),
//!         }
//!     }
//! }
//! let requests: Vec<&str> = ladder.iter().filter(|line| !line.starts_with("SIP")).map(|line| &line[..3]).collect();
//! assert_eq!(requests, ["INV", "INV", "ACK", "BYE", "ACK", "BYE"]);
//! assert_eq!(ladder.iter().filter(|line| *line == "SIP/2.0 200").count(), 4, "two for the INVITE, two for the BYE");
//! assert!(alice.calls() == 0 && bob.calls() == 0);
//! # let _ = call;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Then
//!
//! * Over TCP and TLS nothing is repeated, and [`crate::stream`] finds where a message ends.
//! * A carrier that wants a password answers 401 or 407: [`crate::digest`].
//! * A carrier that wants to know where we are: [`crate::user_agent::register`]; whether it is there itself:
//!   [`crate::user_agent::ping`].
//! * A call handed to someone else: REFER, [`crate::user_agent::UserAgent::refer`].
//!
//! [RFC 3261 §17]: https://www.rfc-editor.org/rfc/rfc3261#section-17
//! [RFC 3261 §16.6]: https://www.rfc-editor.org/rfc/rfc3261#section-16.6
