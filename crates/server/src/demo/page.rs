//! How the story is printed: numbered steps, each request with its answer, colours only on a terminal. What is told is `story`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use quick_xml::events::Event;

/// How wide the column of requests is.
const REQUEST_WIDTH: usize = 58;

/// Where the story is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    colour: bool,
}

/// How a piece of text is shown on a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ink {
    /// Headings.
    Bold,
    /// What need not be read.
    Dim,
    /// What went well.
    Green,
    /// What did not.
    Red,
    /// What can be clicked or pasted.
    Cyan,
}

impl Page {
    /// Standard output. Colours need a terminal there, and a user who does not mind.
    pub(super) fn standard_output() -> Page {
        Page { colour: std::io::stdout().is_terminal() && !crate::config::no_color() }
    }

    /// Prints lines.
    #[expect(clippy::unused_self, reason = "what is printed is printed on a page")]
    pub(super) fn say(self, text: &str) {
        // A reader who has gone is no fault.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Prints lines, indented under their step.
    pub(super) fn tell(self, text: &str) {
        for line in text.lines() {
            self.say(&if line.is_empty() { String::new() } else { format!("   {line}") });
        }
    }

    /// Begins a step.
    pub(super) fn step(self, number: u32, title: &str) {
        self.say(&format!("\n{}", self.paint(Ink::Bold, &format!("{number}. {title}"))));
    }

    /// A request and its answer.
    pub(super) fn request(self, method: &str, path: &str, status: u16, took: Duration) {
        let request = format!("{method:5} {path}");
        let answer = format!("→ {status} in {} ms", took.as_millis());
        self.tell(&self.paint(Ink::Dim, &format!("{request:REQUEST_WIDTH$} {answer}")));
    }

    /// Says that something went as it should.
    pub(super) fn good(self, text: &str) {
        self.tell(&format!("{} {text}", self.paint(Ink::Green, "✓")));
    }

    /// A text with a colour, where there are colours.
    pub(super) fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Cyan => "36",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Rows as aligned columns.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// XML with one element a line.
pub(super) fn indented(xml: &str) -> anyhow::Result<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().trim_text(true);
    let mut writer = quick_xml::Writer::new_with_indent(Vec::new(), b' ', 2);
    loop {
        match reader.read_event()? {
            Event::Eof => break,
            event => writer.write_event(event)?,
        }
    }
    Ok(String::from_utf8(writer.into_inner())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn rows_stand_under_each_other() {
        let rows =
            [vec!["a".to_owned(), "été".to_owned(), "x".to_owned()], vec!["bcd".to_owned(), "e".to_owned()]];
        expect![[r"
            a    été  x
            bcd  e
        "]]
        .assert_eq(&columns(&rows));
    }

    #[test]
    fn xml_is_indented_and_keeps_what_it_says() {
        expect![[r#"
            <Response>
              <Connect action="https://a.example/?b&amp;c">
                <Stream url="wss://a.example/">
                  <Parameter name="city" value="Montréal"/>
                </Stream>
              </Connect>
            </Response>"#]]
        .assert_eq(
            &indented(
                r#"<Response><Connect action="https://a.example/?b&amp;c"><Stream url="wss://a.example/"><Parameter name="city" value="Montréal"/></Stream></Connect></Response>"#,
            )
            .unwrap(),
        );
    }
}
