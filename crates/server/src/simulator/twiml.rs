//! Reads TwiML, the XML in which callbacks are answered, as strictly as the carrier documents it.
//!
//! What a verb does is `call`, `dial` and `stream`; here is only what may be written.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// How deep and how long a document may be.
const DEPTH_MAX: usize = 8;
const ELEMENTS_MAX: usize = 500;

/// An element with what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Element>,
    text: String,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A filled attribute.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.attribute(name).filter(|value| !value.is_empty())
    }

    /// A number of seconds; the default where it is absent or no number.
    pub(crate) fn seconds(&self, name: &str, default: u64) -> u64 {
        self.attribute(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.attribute(name) == Some("true")
    }

    /// The text, without white space around it.
    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }
}

/// A document that may be followed.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) verbs: Vec<Element>,
    /// What the carrier would complain of in its debugger, and follow all the same.
    pub(crate) warnings: Vec<String>,
}

/// The verbs and nouns that are followed here: its name, its parent, its attributes.
const GRAMMAR: [(&str, &str, &[&str]); 16] = [
    ("Response", "", &[]),
    ("Say", "Response", &["voice", "language", "loop"]),
    ("Play", "Response", &["loop", "digits"]),
    ("Pause", "Response", &["length"]),
    ("Hangup", "Response", &[]),
    ("Reject", "Response", &["reason"]),
    ("Redirect", "Response", &["method"]),
    ("Connect", "Response", &["action", "method"]),
    ("Start", "Response", &["action", "method"]),
    ("Stop", "Response", &[]),
    (
        "Dial",
        "Response",
        &[
            "action",
            "method",
            "timeout",
            "timeLimit",
            "callerId",
            "answerOnBridge",
            "hangupOnStar",
            "record",
            "recordingStatusCallback",
            "recordingStatusCallbackMethod",
            "recordingStatusCallbackEvent",
            "recordingTrack",
            "trim",
            "ringTone",
            "referUrl",
            "referMethod",
            "sequential",
            "events",
        ],
    ),
    (
        "Number",
        "Dial",
        &[
            "url",
            "method",
            "sendDigits",
            "byoc",
            "statusCallback",
            "statusCallbackEvent",
            "statusCallbackMethod",
        ],
    ),
    (
        "Sip",
        "Dial",
        &[
            "username",
            "password",
            "url",
            "method",
            "statusCallback",
            "statusCallbackEvent",
            "statusCallbackMethod",
        ],
    ),
    ("Stream", "Connect", STREAM),
    ("Stream", "Start", STREAM),
    ("Parameter", "Stream", &["name", "value"]),
];

const STREAM: &[&str] = &[
    "url",
    "name",
    "track",
    "statusCallback",
    "statusCallbackMethod",
    "connectorName",
    "audioFormat",
    "sampleRate",
];

/// Reads a document. The error is a sentence for the timeline.
pub(crate) fn parse(text: &str) -> Result<Document, String> {
    let root = read_tree(text)?;
    if root.name != "Response" {
        return Err(format!("the root element is <{}>, not <Response>", root.name));
    }
    let mut document = Document::default();
    check(&root, "", &mut document.warnings)?;
    for verb in &root.children {
        let nouns = verb.children.len();
        match verb.name.as_str() {
            "Connect" if nouns != 1 => return Err("<Connect> needs exactly one <Stream>".into()),
            "Dial" if nouns > 10 => return Err("<Dial> takes at most ten nouns".into()),
            "Dial" if nouns == 0 && verb.text().is_empty() => {
                return Err("<Dial> says nowhere to call".into());
            }
            _ => {}
        }
    }
    document.verbs = root.children;
    Ok(document)
}

fn check(element: &Element, parent: &str, warnings: &mut Vec<String>) -> Result<(), String> {
    let allowed = GRAMMAR
        .iter()
        .find(|(name, inside, _)| {
            *name == element.name && (*inside == parent || (*name == "Stream" && parent == "Stop"))
        })
        .map(|(_, _, attributes)| *attributes)
        .ok_or_else(|| format!("<{}> is not known inside <{parent}>", element.name))?;
    for (name, _) in &element.attributes {
        if !allowed.contains(&name.as_str()) {
            warnings.push(format!("<{}> has no attribute {name:?}", element.name));
        }
    }
    element.children.iter().try_for_each(|child| check(child, &element.name, warnings))
}

fn read_tree(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0_usize;
    loop {
        let event = reader.read_event().map_err(|error| format!("not well-formed XML: {error}"))?;
        let outside = open.is_empty();
        match event {
            Event::Start(start) => {
                elements += 1;
                if elements > ELEMENTS_MAX || open.len() >= DEPTH_MAX || (outside && root.is_some()) {
                    return Err("too many elements, too deep, or a second root".into());
                }
                open.push(read_element(&start)?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > ELEMENTS_MAX || (outside && root.is_some()) {
                    return Err("too many elements or a second root".into());
                }
                close(read_element(&start)?, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or("an end tag without a start tag")?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => append(&text.xml10_content(), &mut open)?,
            Event::CData(text) => append(&text.xml10_content(), &mut open)?,
            Event::GeneralRef(name) => {
                let character = name.resolve_char_ref().map_err(|error| format!("bad reference: {error}"))?;
                let resolved = match character {
                    Some(character) => character.to_string(),
                    None => resolve_predefined_entity(&name)
                        .ok_or_else(|| format!("unknown entity &{};", &*name))?
                        .to_owned(),
                };
                append(&resolved, &mut open)?;
            }
            Event::DocType(_) => return Err("a document type is not allowed".into()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if outside => return root.ok_or_else(|| "the document is empty".into()),
            Event::Eof => return Err(format!("<{}> is not closed", open[open.len() - 1].name)),
        }
    }
}

fn read_element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut element = Element { name: start.name().0.to_owned(), ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| format!("bad attribute in <{}>: {error}", element.name))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("bad attribute in <{}>: {error}", element.name))?;
        element.attributes.push((attribute.key.0.to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn append(text: &str, open: &mut [Element]) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside the root element".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_entities_and_order() {
        let document = parse(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Say voice=\"alice\">You &amp; I &#233;t&#xE9;</Say>\
             <Dial answerOnBridge=\"true\" timeout=\"20\" action=\"https://pbx/after?a=1&amp;b=2\">\
             <Sip>sip:a@example.com;transport=tls?X-A=1&amp;X-B=2</Sip></Dial></Response>",
        )
        .unwrap();
        assert_eq!(document.verbs[0].text(), "You & I été");
        let dial = &document.verbs[1];
        assert_eq!(dial.attribute("action"), Some("https://pbx/after?a=1&b=2"));
        assert_eq!(dial.seconds("timeout", 30), 20);
        assert!(dial.flag("answerOnBridge"));
        assert_eq!(dial.children[0].text(), "sip:a@example.com;transport=tls?X-A=1&X-B=2");
        assert!(document.warnings.is_empty());
    }

    #[test]
    fn an_empty_response_is_a_document() {
        assert!(parse("<Response/>").unwrap().verbs.is_empty());
        assert!(parse("<Response></Response>\n").unwrap().verbs.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "the document is empty"),
            ("hello", "text outside the root element"),
            ("<Response><Say>hi</Response>", "not well-formed XML"),
            ("<Response><say>hi</say></Response>", "<say> is not known inside <Response>"),
            ("<Response><Gather/></Response>", "<Gather> is not known inside <Response>"),
            ("<response/>", "the root element is <response>"),
            (
                "<Response><Stream url=\"wss://a.example/\"/></Response>",
                "<Stream> is not known inside <Response>",
            ),
            ("<Response><Connect/></Response>", "exactly one <Stream>"),
            ("<Response><Dial/></Response>", "nowhere to call"),
            ("<Response/><Response/>", "a second root"),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><Response/>", "a document type is not allowed"),
            ("<Response><Say>&nbsp;</Say></Response>", "unknown entity &nbsp;"),
            ("<Response><Pause>", "is not closed"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(<|>|/|&|;|#|!|\\[|\\]|-|\\?|=|'|\"| |Response|Dial|Say|x|\\PC){0,40}") {
            let _ = parse(&text);
            let _ = parse(&format!("<Response>{text}</Response>"));
        }
    }

    #[test]
    fn misspelt_attributes_are_warned_of() {
        let document =
            parse("<Response><Dial Timeout=\"5\"><Number>+14155550100</Number></Dial></Response>").unwrap();
        assert_eq!(document.warnings, ["<Dial> has no attribute \"Timeout\""]);
    }
}
