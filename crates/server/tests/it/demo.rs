//! `switchboard demo`, as somebody runs it who has never seen it: the true program, its printed story, and the lines that it
//! invites to paste.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use expect_test::expect_file;
use reqwest::Method;
use serde_json::{Value, json};

const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");
/// How long any one wait in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many lines of output may wait to be read.
const LINES_MAX: usize = 1_000;

fn demo(dir: &str, more: &[&str]) -> Command {
    let mut command = Command::new(SWITCHBOARD);
    command
        .args(["demo", "--dir", dir, "--listen", "127.0.0.1:0"])
        .args(more)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// What differs from run to run – ports, ids, times, how long things took – under one name each, and one space between words.
fn settled(text: &str, dir: &str) -> String {
    let mut settled = Vec::new();
    for line in text.replace(dir, "FOLDER").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let told: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(at, word)| {
                let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
                let unit = words.get(at + 1).map(|unit| unit.trim_matches(|c: char| !c.is_alphanumeric()));
                let is_time =
                    word.len() == 12 && word.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
                match unit {
                    Some("ms" | "s" | "frames") if is_number => "N".to_owned(),
                    _ if is_time => "TIME".to_owned(),
                    _ => without_ids(word),
                }
            })
            .collect();
        // What is aligned by its last digit stands further left the longer it took.
        let indent = if told.first().is_some_and(|first| first == "N") {
            3
        } else {
            line.len() - line.trim_start().len()
        };
        settled.push(format!("{}{}\n", " ".repeat(indent), told.join(" ")));
    }
    // When the caller has hung up, the carrier does several things side by side, and each may be first.
    if let Some(hung_up) = settled.iter().position(|line| line.contains("the caller hangs up")) {
        let after = settled[hung_up..].iter().take_while(|line| line.starts_with("   N ms")).count();
        settled[hung_up + 1..hung_up + after].sort();
    }
    // And so it comes to us: how the agent's part ended, and how the call did.
    if let Some(decided) = settled.iter().position(|line| line.contains("TIME decided")) {
        let after = settled[decided..].iter().take_while(|line| line.starts_with("   TIME ")).count();
        settled[decided + 1..decided + after].sort_by_key(|line| !line.contains("target_ended"));
    }
    settled.concat()
}

/// Ports of this machine, and long runs of letters and digits.
fn without_ids(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (piece, after) = rest.split_at(run);
        if out.ends_with("127.0.0.1:") {
            out.push_str("PORT");
        } else if piece.len() >= 26 && piece.contains(|c: char| c.is_ascii_digit()) {
            // Of our ids the kind stays, and of the carrier's: PN, CA, MZ.
            let of_carrier =
                &piece[..if piece.starts_with(|c: char| c.is_ascii_uppercase()) { 2 } else { 0 }];
            out.push_str(piece.split_once('_').map_or(of_carrier, |(kind, _)| kind));
            out.push('…');
        } else if piece.len() >= 13 && piece.chars().all(|c| c.is_ascii_digit()) {
            out.push('…');
        } else {
            out.push_str(piece);
        }
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[test]
fn the_story_is_told_to_its_end() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("demo");
    let dir = dir.to_str().unwrap();
    // The second time, the same folder is used afresh and the same is told.
    for _ in 0..2 {
        let output = demo(dir, &["--once"]).output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{out}\n{err}");
        assert_eq!(err, "", "nothing is complained of");
        assert!(!out.contains('\u{1b}'), "no colours where there is no terminal");
        expect_file!["./demo_story.txt"].assert_eq(&settled(&out, dir));
    }
}

#[test]
fn a_demonstration_that_cannot_be_given_says_why() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("thesis.txt"), "two years of work").unwrap();
    let output = demo(outside.path().to_str().unwrap(), &["--once"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("--dir"), "{err}");
    assert!(outside.path().join("thesis.txt").exists());
}

/// A demonstration that goes on serving.
struct Serving {
    child: Child,
    lines: Receiver<String>,
}

impl Serving {
    fn start(dir: &str) -> Serving {
        let mut child = demo(dir, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = sync_channel(LINES_MAX);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Serving { child, lines }
    }

    /// Everything that is printed until it serves.
    fn story(&mut self) -> String {
        let mut story = String::new();
        loop {
            let line =
                self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it ended early:\n{story}"));
            story.push_str(&line);
            story.push('\n');
            if line.contains("Ctrl-C") {
                return story;
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Only what this test has started; it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a shell would make of the lines that begin with `curl`: one list of arguments each.
fn pasted(story: &str) -> Vec<Vec<String>> {
    let text = story.replace("\\\n", " ");
    let commands = text.lines().map(str::trim).filter(|line| line.starts_with("curl "));
    commands
        .map(|command| {
            let mut arguments = Vec::new();
            for (at, piece) in command.split('\'').enumerate() {
                if at % 2 == 1 {
                    arguments.push(piece.to_owned());
                } else {
                    arguments.extend(piece.split_whitespace().map(str::to_owned));
                }
            }
            arguments
        })
        .collect()
}

/// Does what curl would do with these arguments.
async fn curl(arguments: &[String]) -> (u16, Value) {
    let client = client();
    let (mut url, mut headers, mut body) = (None, Vec::new(), None);
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-s" => {}
            "-H" => headers.push(arguments.next().unwrap().split_once(": ").unwrap()),
            "-d" => body = arguments.next(),
            other => assert!(url.replace(other).is_none(), "one address: {other}"),
        }
    }
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = client.request(method, url.unwrap());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.body(body.clone());
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client, of the far side")]
fn client() -> reqwest::Client {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

#[tokio::test]
async fn the_lines_to_paste_work_and_ctrl_c_ends_it() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("demo");
    let dir = dir.to_str().unwrap().to_owned();
    let mut serving = Serving::start(&dir);
    let story = serving.story();
    let lines = pasted(&story);
    assert_eq!(lines.len(), 3, "{story}");

    let (status, explained) = curl(&lines[0]).await;
    assert_eq!((status, &explained["decision"]["action"]), (200, &json!("connect")), "{explained:#}");
    let (status, numbers) = curl(&lines[1]).await;
    assert_eq!((status, numbers["data"].as_array().unwrap().len()), (200, 1), "{numbers:#}");
    assert_eq!(numbers["data"][0]["status"], "active", "{numbers:#}");
    let (status, call) = curl(&lines[2]).await;
    assert_eq!((status, &call["status"]), (201, &json!("completed")), "{call:#}");
    assert!(call["streams"][0]["frames_heard"].as_u64().unwrap() > 0, "{call:#}");

    // And the command line, with the key that is kept in the folder.
    let hint =
        story.lines().find_map(|line| Some(line.split_once("command line")?.1.trim().to_owned())).unwrap();
    let listed = Command::new(SWITCHBOARD).args(hint.split(' ').skip(1)).env_clear().output().unwrap();
    let out = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && out.contains("+1514555"), "{hint}: {out}");

    let interrupted = Command::new("kill").args(["-INT", &serving.child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let ended = tokio::task::spawn_blocking(move || {
        let mut serving = serving;
        serving.child.wait().unwrap()
    });
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
}
