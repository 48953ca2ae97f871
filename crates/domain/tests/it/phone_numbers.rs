//! Our [`E164`] against Google's own library (PyPI `phonenumbers`), over examples of every region and kind, mutated.

use std::path::Path;
use std::process::Command;

use domain::number::E164;

/// How many countries may differ: the two libraries' metadata are releases of different days.
const COUNTRIES_DIFFER_MAX: usize = 10;
/// How many numbers may be possible by one and not by the other, for the same reason.
const POSSIBLE_DIFFER_MAX: usize = 10;

#[test]
fn numbers_are_read_as_by_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../target/test-venv/bin/python");
    assert!(
        python.exists(),
        "this test wants the Python packages of crates/server/tests/requirements.txt; `./test tests` installs them, or run: \
         python3 -m venv target/test-venv && target/test-venv/bin/pip install -r crates/server/tests/requirements.txt"
    );
    let output =
        Command::new(python).arg(root.join("tests/it/phone_numbers.py")).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (mut lines, mut possible, mut countries) = (0, Vec::new(), Vec::new());
    for line in text.lines() {
        let [written, canonical, country] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        lines += 1;
        // Emergency numbers and short codes are ours to refuse, whatever the plan says.
        let Ok(number) = E164::parse(written, None) else {
            if canonical == written && written.len() > 7 {
                possible.push(written);
            }
            continue;
        };
        if canonical != written {
            possible.push(written);
        }
        if number.country().map(|country| country.to_string()).unwrap_or_default() != country {
            countries.push(written);
        }
    }
    assert!(lines > 5_000, "only {lines} cases");
    assert!(possible.len() <= POSSIBLE_DIFFER_MAX, "{} of {lines} differ: {possible:?}", possible.len());
    assert!(countries.len() <= COUNTRIES_DIFFER_MAX, "{} of {lines} differ: {countries:?}", countries.len());
}
