//! Reading JSON strictly: what others repair or drop in silence – a key that stands twice, a number that does not fit, half a
//! character – is refused with its place.

use std::cell::Cell;
use std::fmt;

use domain::error::{Code, Refusal, shown};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The deepest nesting of arrays and objects.
pub const DEPTH_MAX: u32 = 32;

/// Reads one JSON value and nothing behind it.
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Refusal::new(
            Code::InvalidUtf8,
            format!("the body is not UTF-8: the byte at position {} fits no character", error.valid_up_to()),
        )
    })?;
    let why = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Strict { depth: 0, why: &why }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| refusal(text, &error, why.get()))
}

fn refusal(text: &str, error: &serde_json::Error, why: Option<Code>) -> Refusal {
    let (line, column) = (error.line(), error.column());
    // serde_json ends each message with the place, which we write ourselves.
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let at = format!("at line {line}, column {column}");
    let code = why.unwrap_or_else(|| {
        let here = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let from_here: String = here.chars().skip(column.saturating_sub(1)).take(9).collect();
        let no_number = ["NaN", "Infinity", "-Infinity", "nan", "inf"];
        let is_no_number = no_number.iter().any(|word| from_here.starts_with(word))
            || (said == "invalid number" && here.contains("-Infinity"));
        if said.contains("surrogate") || said.contains("hex escape") {
            Code::InvalidUtf8
        } else if said.contains("number out of range") || is_no_number {
            Code::JsonNumber
        } else if said.contains("recursion limit") {
            Code::JsonDepth
        } else {
            Code::JsonSyntax
        }
    });
    let detail = match code {
        Code::JsonDepth => format!("arrays and objects are nested deeper than {DEPTH_MAX} levels, {at}"),
        Code::JsonNumber => {
            format!("the number {at} is not finite or out of range; send a finite decimal number")
        }
        Code::InvalidUtf8 => format!("the text {at} has a \\u escape that is half a character: {said}"),
        _ => format!("{said}, {at}"),
    };
    Refusal::new(code, detail)
}

/// Reads a value and says which code a refusal of our own has.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u32,
    why: &'a Cell<Option<Code>>,
}

impl Strict<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            self.why.set(Some(Code::JsonDepth));
            return Err(E::custom("too deep"));
        }
        Ok(Strict { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                self.why.set(Some(Code::JsonDuplicateKey));
                return Err(de::Error::custom(format!("the key {} stands twice in one object", shown(&key))));
            }
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let deep = "[".repeat(33) + &"]".repeat(33);
        let deeper = "[".repeat(4000);
        for (text, code, part) in [
            ("{", Code::JsonSyntax, "at line 1, column 1"),
            ("", Code::JsonSyntax, "EOF"),
            ("{\"a\": 1,\n \"b\": }", Code::JsonSyntax, "at line 2"),
            ("{} x", Code::JsonSyntax, "trailing"),
            ("{\"a\":1,\"a\":2}", Code::JsonDuplicateKey, "`a`"),
            ("{\"x\":{\"a\":1,\"\\u0061\":2}}", Code::JsonDuplicateKey, "`a`"),
            ("{\"a\":1e999}", Code::JsonNumber, "out of range"),
            ("{\"a\":NaN}", Code::JsonNumber, "finite"),
            ("{\"a\":-Infinity}", Code::JsonNumber, "finite"),
            ("{\"a\":\"\\ud800\"}", Code::InvalidUtf8, "half a character"),
            (&deep, Code::JsonDepth, "32 levels"),
            (&deeper, Code::JsonDepth, "32 levels"),
            ("{'a':1}", Code::JsonSyntax, "key must be a string"),
        ] {
            let refusal = parse(text.as_bytes()).expect_err(text);
            assert_eq!(refusal.code, code, "{text}: {refusal}");
            assert!(refusal.detail.contains(part), "{text}: {refusal}");
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().code, Code::InvalidUtf8);
    }

    #[test]
    fn what_is_json_is_read() {
        let fits = "[".repeat(32) + &"]".repeat(32);
        assert!(parse(fits.as_bytes()).is_ok());
        let value = parse("{\"a\":[1,-2,3.5,true,null,\"\\ud83d\\ude00\"]} ".as_bytes()).unwrap();
        assert_eq!(value.to_string(), "{\"a\":[1,-2,3.5,true,null,\"😀\"]}");
    }
}
