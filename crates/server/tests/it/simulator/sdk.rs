//! The simulated carrier is what the carrier's official Python SDK expects.

use std::process::Stdio;

use tokio::process::Command;

use super::{Carrier, root};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_finds_everything_as_the_carrier_has_it() {
    let python = root().join("target/test-venv/bin/python");
    let installed = Command::new(&python)
        .args(["-c", "import twilio"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .is_ok_and(|status| status.success());
    assert!(
        installed,
        "the official SDK is not installed; run:\n  python3 -m venv target/test-venv && \
         target/test-venv/bin/pip install -r crates/server/tests/requirements.txt"
    );

    let carrier = Carrier::start().await;
    let checked = Command::new(&python)
        .arg(root().join("crates/server/tests/sdk/twilio_check.py"))
        .args([&carrier.running.base_url(), carrier.running.account_sid(), carrier.running.auth_token()])
        .output()
        .await
        .unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
    carrier.running.shutdown().await;
}
