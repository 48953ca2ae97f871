//! Variants in their order: how one is added, renamed, moved and removed in a draft. The first is the default, which answers
//! numbers without a variant. What numbers carry is not judged here: a removed variant leaves a callout behind
//! ([`crate::assignment::callouts`]).

use crate::agent::{NAME_CHARS_MAX, VARIANTS_MAX, Variant};
use crate::error::{Code, Refusal, is_invisible, shown};
use crate::id::VariantId;

/// Reads a name of an agent or a variant: visible characters, no space at its ends, at most [`NAME_CHARS_MAX`].
pub fn name_parse(text: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(
            Code::Blank,
            format!("{} is no name; send 1 to {NAME_CHARS_MAX} visible characters", shown(text)),
        ));
    }
    let count = text.chars().count();
    if count > NAME_CHARS_MAX {
        return Err(Refusal::new(
            Code::TooLong,
            format!("{} has {count} characters; a name has at most {NAME_CHARS_MAX}", shown(text)),
        ));
    }
    if let Some(c) = text.chars().find(|&c| c.is_control() || is_invisible(c)) {
        return Err(Refusal::new(
            Code::ControlCharacter,
            format!("{} holds the invisible character U+{:04X}; remove it", shown(text), c as u32),
        ));
    }
    Ok(text.trim().to_owned())
}

/// Refuses a name that another variant of the agent has, whatever its letter case.
pub fn name_check(variants: &[Variant], name: &str, own: Option<VariantId>) -> Result<(), Refusal> {
    let lower = name.to_lowercase();
    match variants.iter().find(|other| Some(other.id) != own && other.name.to_lowercase() == lower) {
        None => Ok(()),
        Some(other) => Err(Refusal::new(
            Code::NameTaken,
            format!(
                "the variant {} is called {} already; names are unique within an agent",
                other.id,
                shown(&other.name)
            ),
        )),
    }
}

/// Refuses one more variant where there are [`VARIANTS_MAX`].
pub fn room_check(variants: &[Variant]) -> Result<(), Refusal> {
    if variants.len() < VARIANTS_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        Code::LimitReached,
        format!(
            "the agent has {} variants; at most {VARIANTS_MAX} are possible, so delete one first",
            variants.len()
        ),
    ))
}

/// Puts a variant at another place; 1 is the first, the default.
pub fn move_to(variants: &mut Vec<Variant>, id: VariantId, position: usize) -> Result<(), Refusal> {
    let from = place(variants, id)?;
    if !(1..=variants.len()).contains(&position) {
        return Err(Refusal::new(
            Code::InvalidValue,
            format!(
                "{position} is no place among {} variants; send 1 (the default) to {}",
                variants.len(),
                variants.len()
            ),
        ));
    }
    let variant = variants.remove(from);
    variants.insert(position - 1, variant);
    Ok(())
}

/// Takes a variant out. The default stays while there are others: numbers without a variant would silently be answered by
/// another one.
pub fn remove(variants: &mut Vec<Variant>, id: VariantId) -> Result<Variant, Refusal> {
    let at = place(variants, id)?;
    if at == 0 && variants.len() > 1 {
        return Err(Refusal::new(
            Code::DefaultVariant,
            format!(
                "{} is the default and answers numbers without a variant; make another the default first, with PATCH {{\"position\": 1}} on it, or delete the {} others",
                shown(&variants[0].name),
                variants.len() - 1
            ),
        ));
    }
    Ok(variants.remove(at))
}

/// The place of a variant, from 0.
pub fn place(variants: &[Variant], id: VariantId) -> Result<usize, Refusal> {
    variants.iter().position(|variant| variant.id == id).ok_or_else(|| {
        Refusal::new(
            Code::VariantNotFound,
            format!("the draft has no variant {id}; list them with GET /v1/agents/{{id}}/variants"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Parameters;

    fn variants(names: &[&str]) -> Vec<Variant> {
        names
            .iter()
            .zip(1..)
            .map(|(name, bits)| Variant {
                id: VariantId::from_bits(bits),
                name: (*name).to_owned(),
                attributes: Parameters::default(),
                endpoint: None,
            })
            .collect()
    }

    fn names(variants: &[Variant]) -> Vec<&str> {
        variants.iter().map(|variant| variant.name.as_str()).collect()
    }

    #[test]
    fn the_default_goes_last() {
        let mut three = variants(&["Paris", "Lyon", "Nice"]);
        let refused = remove(&mut three, VariantId::from_bits(1)).unwrap_err();
        assert_eq!(refused.code, Code::DefaultVariant);
        assert!(refused.detail.contains("`Paris`") && refused.detail.contains("2 others"), "{refused}");
        assert_eq!(remove(&mut three, VariantId::from_bits(3)).unwrap().name, "Nice");
        move_to(&mut three, VariantId::from_bits(2), 1).unwrap();
        assert_eq!(names(&three), ["Lyon", "Paris"], "another is the default now");
        remove(&mut three, VariantId::from_bits(1)).unwrap();
        remove(&mut three, VariantId::from_bits(2)).unwrap();
        assert!(three.is_empty());
        assert_eq!(remove(&mut three, VariantId::from_bits(2)).unwrap_err().code, Code::VariantNotFound);
    }

    #[test]
    fn places_are_counted_from_one() {
        let mut three = variants(&["a", "b", "c"]);
        move_to(&mut three, VariantId::from_bits(1), 3).unwrap();
        assert_eq!(names(&three), ["b", "c", "a"]);
        move_to(&mut three, VariantId::from_bits(1), 2).unwrap();
        assert_eq!(names(&three), ["b", "a", "c"]);
        for position in [0, 4, usize::MAX] {
            let refused = move_to(&mut three, VariantId::from_bits(1), position).unwrap_err();
            assert_eq!(refused.code, Code::InvalidValue, "{position}");
        }
    }

    #[test]
    fn names_are_visible_and_unique_in_any_letter_case() {
        let three = variants(&["Paris", "Lyon", "Nice"]);
        assert_eq!(name_check(&three, "paris", None).unwrap_err().code, Code::NameTaken);
        assert!(name_check(&three, "PARIS", Some(VariantId::from_bits(1))).is_ok(), "its own name");
        assert_eq!(name_parse("  Montréal ").unwrap(), "Montréal");
        for (text, code) in [
            ("", Code::Blank),
            (" \u{200B}", Code::ControlCharacter),
            ("a\nb", Code::ControlCharacter),
            ("a\u{202E}b", Code::ControlCharacter),
        ] {
            assert_eq!(name_parse(text).unwrap_err().code, code, "{text:?}");
        }
        assert_eq!(name_parse(&"x".repeat(101)).unwrap_err().code, Code::TooLong);
        assert!(name_parse(&"é".repeat(100)).is_ok());
    }

    #[test]
    fn there_is_a_limit() {
        let many: Vec<String> = (0..VARIANTS_MAX).map(|n| n.to_string()).collect();
        let many = variants(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(room_check(&many).unwrap_err().code, Code::LimitReached);
        assert!(room_check(&many[1..]).is_ok());
    }
}
