//! Calls come in: what the carrier is told, what follows, and what is kept.

use std::time::Duration;

use database::secrets::Place;
use domain::call::{CallStatus, Outcome};
use domain::caller::CallerRules;
use domain::endpoint::{Dial, SecretRef, SipAuth, SipUri, Target};
use domain::environment::Environment;
use domain::hours::Hours;
use domain::id::{SecretId, VariantId};
use domain::route::row::{NumberSettings, Row};
use domain::workspace::{OutageMode, WorkspaceSettings};
use expect_test::expect;

use crate::line::{CALLER, Laid, Line, fallback, parameters, phone, plain, ringing, sip, stream};

#[tokio::test]
async fn a_stream_gets_the_parameters_of_agent_and_variant() {
    let line = Line::open(Laid {
        parameters: vec![("language", "fr"), ("site", "all")],
        variants: vec![domain::agent::Variant {
            id: VariantId::from_bits(7),
            name: "Downtown".to_owned(),
            attributes: parameters(&[("site", "downtown <1>")]),
            endpoint: None,
        }],
        ..Laid::dial(stream())
    })
    .await;
    expect![[r#"<Response><Connect action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=stream&amp;since={now}" method="POST"><Stream url="wss://agent.example/media"><Parameter name="switchboard_call" value="cal_…"/><Parameter name="switchboard_number" value="+14385550100"/><Parameter name="switchboard_agent" value="agt_00000000000000000000000002"/><Parameter name="switchboard_environment" value="live"/><Parameter name="switchboard_variant" value="var_00000000000000000000000007"/><Parameter name="language" value="fr"/><Parameter name="site" value="downtown &lt;1&gt;"/></Stream></Connect></Response>"#]]
    .assert_eq(&plain(&line.voice("CA1").await));
}

#[tokio::test]
async fn sip_targets_are_dialled_with_their_password_and_headers() {
    let line = Line::open(Laid::default()).await;
    let secret = SecretId::from_bits(5);
    let row = secret.to_string();
    let place = Place { workspace: line.workspace, table: "secrets", column: "sip_password", row: &row };
    let ciphertext = line.app.keyring.seal(place, b"hunter2").unwrap();
    let auth =
        SipAuth { username: "user".to_owned(), password: SecretRef { id: secret, last4: "er2".to_owned() } };
    let uri = SipUri::parse("sip:support@agents.example;transport=tls").unwrap();
    let dial = Dial { target: Target::Sip { uri, auth: Some(auth) }, ring_timeout_s: 15 };
    line.lay(Laid {
        secrets: vec![Row::Secret(secret, Some(ciphertext.into()))],
        ..Laid::dial(dial.clone())
    });
    expect![[r#"<Response><Dial answerOnBridge="true" timeout="15" action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=dial&amp;since={now}" method="POST"><Sip username="user" password="hunter2">sip:support@agents.example;transport=tls?X-Switchboard-Call=cal_…&amp;X-Switchboard-Number=%2B14385550100&amp;X-Switchboard-Agent=agt_00000000000000000000000002&amp;X-Switchboard-Environment=live</Sip></Dial></Response>"#]]
    .assert_eq(&plain(&line.voice("CA1").await));
    line.lay(Laid::dial(dial));
    let without = line.voice("CA2").await;
    assert!(without.contains("<Sip>sip:support@"), "a secret that is gone does not lose the call: {without}");
    line.lay(Laid::dial(phone(7)));
    expect![[r#"<Response><Dial answerOnBridge="true" timeout="20" action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=dial&amp;since={now}" method="POST"><Number>+14385550107</Number></Dial></Response>"#]]
    .assert_eq(&plain(&line.voice("CA3").await));
    let kept = line.kept(3).await;
    let text =
        serde_json::to_string(&kept.iter().map(|(call, _)| &call.decision).collect::<Vec<_>>()).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn the_chain_is_followed_step_by_step_to_the_message() {
    let line = Line::open(Laid {
        fallback: Some(fallback(vec![phone(1)], None)),
        settings: WorkspaceSettings {
            fallback: Some(fallback(vec![sip("night"), phone(1)], Some("Nobody is here."))),
            ..WorkspaceSettings::default()
        },
        ..Laid::dial(sip("support"))
    })
    .await;
    let mut twiml = line.voice("CA1").await;
    assert!(twiml.contains("sip:support@"), "{twiml}");
    for (result, expected) in [
        (vec![("DialCallStatus", "no-answer"), ("DialCallSid", "CA9")], "<Number>+14385550101</Number>"),
        (vec![("DialCallStatus", "completed"), ("DialBridged", "false")], "sip:night@"),
        (vec![("DialCallStatus", "busy")], "<Say>Nobody is here.</Say></Response>"),
    ] {
        twiml = line.after(&twiml, "CA1", &result).await;
        assert!(twiml.contains(expected), "{result:?}: {twiml}");
    }
    let kept = line.kept(4).await;
    let (call, timeline) = &kept[0];
    assert_eq!((kept.len(), call.outcome, call.status), (1, Some(Outcome::Announced), CallStatus::Ringing));
    assert_eq!(call.route.unwrap().environment, Environment::Live);
    let told: Vec<String> = timeline
        .iter()
        .map(|event| format!("{} {}", event.kind, event.detail["result"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        told,
        ["decided -", "target_ended not_answered", "target_ended not_answered", "target_ended not_answered"]
    );
    let decision = call.decision.as_ref().unwrap();
    assert_eq!(decision["decision"]["action"], "connect");
    assert_eq!(decision["decision"]["targets"].as_array().unwrap().len(), 3);
    assert_eq!(decision["steps"][0]["rule"], "number");
}

#[tokio::test]
async fn who_took_the_call_is_its_outcome() {
    let laid = || Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(sip("support")) };
    let line = Line::open(laid()).await;
    let agent = line.voice("CA1").await;
    let done = line
        .after(
            &agent,
            "CA1",
            &[("DialCallStatus", "completed"), ("DialBridged", "true"), ("DialCallDuration", "61")],
        )
        .await;
    assert_eq!(done, "<Response/>");
    let second = line.voice("CA2").await;
    let fell_back = line.after(&second, "CA2", &[("DialCallStatus", "failed")]).await;
    assert_eq!(line.after(&fell_back, "CA2", &[("DialCallStatus", "answered")]).await, "<Response/>");
    let third = line.voice("CA3").await;
    let left =
        line.after(&third, "CA3", &[("DialCallStatus", "no-answer"), ("CallStatus", "completed")]).await;
    assert_eq!(left, "<Response/>", "the caller has hung up");
    let outcomes: Vec<_> =
        line.kept(7).await.into_iter().map(|(call, _)| (call.carrier_call_id, call.outcome)).collect();
    let mut outcomes = outcomes;
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        outcomes,
        [
            ("CA1".to_owned(), Some(Outcome::Answered)),
            ("CA2".to_owned(), Some(Outcome::FellBack)),
            ("CA3".to_owned(), Some(Outcome::Abandoned)),
        ]
    );
}

/// A caller who leaves within the greeting, and calls of which the carrier reports nothing but their end.
#[tokio::test]
async fn a_call_that_is_over_says_how_it_ended() {
    let line =
        Line::open(Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(stream()) }).await;
    let twiml = line.voice("CA1").await;
    line.clock.advance(Duration::from_millis(600));
    let gone = [("StreamSid", "MZ1"), ("CallStatus", "completed")];
    assert_eq!(line.after(&twiml, "CA1", &gone).await, "<Response/>", "nobody is left to fall back for");
    line.voice("CA2").await;
    for (sid, duration) in [("CA1", "0"), ("CA2", "0"), ("CA3", "7")] {
        let mut parameters = ringing(sid);
        parameters.iter_mut().find(|(name, _)| *name == "CallStatus").unwrap().1 = "completed";
        parameters.push(("CallDuration", duration));
        assert_eq!(line.post("voice-status", &parameters).await.status, 204);
    }
    line.kept(6).await;
    line.clock.advance(Duration::from_secs(60));
    let mut outcomes: Vec<_> =
        line.kept(6).await.into_iter().map(|(call, _)| (call.carrier_call_id, call.outcome)).collect();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        outcomes,
        [
            ("CA1".to_owned(), Some(Outcome::Abandoned)),
            ("CA2".to_owned(), Some(Outcome::Abandoned)),
            ("CA3".to_owned(), Some(Outcome::Unanswered)),
        ]
    );
}

#[tokio::test]
async fn a_stream_that_failed_at_once_falls_to_the_next_target() {
    let line =
        Line::open(Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(stream()) }).await;
    let twiml = line.voice("CA1").await;
    line.clock.advance(Duration::from_millis(400));
    let next = line.after(&twiml, "CA1", &[("StreamSid", "MZ1")]).await;
    assert!(next.contains("<Number>+14385550101</Number>"), "{next}");
    let twiml = line.voice("CA2").await;
    line.clock.advance(Duration::from_secs(40));
    assert_eq!(line.after(&twiml, "CA2", &[("StreamSid", "MZ2")]).await, "<Response/>");
    let twiml = line.voice("CA3").await;
    line.clock.advance(Duration::from_secs(9));
    let next = line.after(&twiml, "CA3", &[("StreamSid", "MZ3"), ("StreamError", "handshake")]).await;
    assert!(next.contains("<Number>"), "{next}");
}

/// A caller may change their mind at once: that is no fault of the agent's, and nobody else is called for it.
#[tokio::test]
async fn a_caller_who_hangs_up_at_once_is_sent_to_nobody_else() {
    let line =
        Line::open(Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(stream()) }).await;
    let ends: &[(&str, &[(&str, &str)])] = &[
        ("CA1", &[("StreamSid", "MZ1"), ("CallStatus", "completed")]),
        ("CA2", &[("CallStatus", "canceled")]),
        // The stream broke because the caller was gone.
        ("CA3", &[("StreamSid", "MZ3"), ("StreamError", "closed"), ("CallStatus", "completed")]),
    ];
    for (sid, said) in ends {
        let twiml = line.voice(sid).await;
        line.clock.advance(Duration::from_millis(300));
        assert_eq!(line.after(&twiml, sid, said).await, "<Response/>", "{sid}");
    }
    for (call, timeline) in line.kept(6).await {
        assert_eq!(call.outcome, Some(Outcome::Abandoned), "{call:#?}");
        assert_eq!(timeline[1].detail["result"], "caller_gone");
        assert!(timeline[1].detail.get("next").is_none(), "{timeline:#?}");
    }
}

#[tokio::test]
async fn rules_of_callers_hours_and_outage_mode_are_kept() {
    let line = Line::open(Laid::default()).await;
    let say = |text: &str| format!("<Response><Say>{text}</Say></Response>");
    line.lay(Laid {
        own: Some(NumberSettings {
            inbound: Some(CallerRules {
                block_numbers: vec![CALLER.parse().unwrap()],
                ..CallerRules::default()
            }),
            ..NumberSettings::default()
        }),
        ..Laid::dial(stream())
    });
    assert_eq!(line.voice("CA1").await, "<Response><Reject/></Response>");
    line.lay(Laid {
        own: Some(NumberSettings {
            hours: Some(Hours { closed: Some(fallback(vec![], Some("We are closed."))), ..Hours::default() }),
            ..NumberSettings::default()
        }),
        ..Laid::dial(stream())
    });
    assert_eq!(line.voice("CA2").await, say("We are closed."));
    let now = "2026-11-23T15:00:00Z".parse().unwrap();
    line.lay(Laid {
        settings: WorkspaceSettings {
            outage: OutageMode::default().switched(Environment::Live, true, now),
            fallback: Some(fallback(vec![phone(1)], None)),
            ..WorkspaceSettings::default()
        },
        ..Laid::dial(stream())
    });
    assert!(line.voice("CA3").await.contains("<Number>+14385550101</Number>"));
    line.lay(Laid { unassigned: true, ..Laid::default() });
    let said = line.voice("CA4").await;
    assert_eq!(said, say(domain::fallback::MESSAGE_DEFAULT));
    let kept = line.kept(4).await;
    let mut outcomes: Vec<_> =
        kept.iter().map(|(call, _)| (call.carrier_call_id.as_str(), call.outcome)).collect();
    outcomes.sort_unstable_by_key(|(sid, _)| *sid);
    assert_eq!(
        outcomes,
        [
            ("CA1", Some(Outcome::Rejected)),
            ("CA2", Some(Outcome::Announced)),
            ("CA3", None),
            ("CA4", Some(Outcome::Announced)),
        ]
    );
    for (call, _) in &kept {
        let expected = (call.carrier_call_id != "CA4").then_some(crate::line::AGENT);
        assert_eq!(call.route.map(|route| route.agent_id), expected, "{}", call.carrier_call_id);
    }
}

#[tokio::test]
async fn a_callback_that_comes_twice_gives_the_same_answer_and_one_call() {
    let line = Line::open(Laid::dial(sip("support"))).await;
    let first = line.voice("CA1").await;
    line.clock.advance(Duration::from_secs(2));
    let plain_of = |twiml: &str| twiml.split("&amp;since=").next().unwrap().to_owned();
    assert_eq!(plain_of(&line.voice("CA1").await), plain_of(&first));
    let failed = [("DialCallStatus", "failed")];
    assert_eq!(line.after(&first, "CA1", &failed).await, line.after(&first, "CA1", &failed).await);
    line.voice("CA2").await;
    let kept = line.kept(3).await;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].0.timeline_count, 2, "{:#?}", kept[0].1);
}

#[tokio::test]
async fn statuses_are_kept_in_whatever_order_they_come() {
    let line = Line::open(Laid::dial(sip("support"))).await;
    line.voice("CA1").await;
    let status = |word: &'static str, sequence: &'static str| {
        let mut parameters = ringing("CA1");
        parameters.iter_mut().find(|(name, _)| *name == "CallStatus").unwrap().1 = word;
        parameters.extend([
            ("SequenceNumber", sequence),
            ("Timestamp", "Mon, 23 Nov 2026 15:31:00 +0000"),
            ("CallbackSource", "call-progress-events"),
        ]);
        if word == "completed" {
            parameters.push(("CallDuration", "49"));
        }
        parameters
    };
    for (word, sequence) in [
        ("completed", "3"),
        ("ringing", "1"),
        ("completed", "3"),
        ("in-progress", "2"),
        ("teleported", "9"),
        ("busy", "4"),
    ] {
        let answered = line.post("voice-status", &status(word, sequence)).await;
        assert_eq!((answered.status, answered.body.as_str()), (204, ""), "{word}");
    }
    let mut orphan = status("completed", "0");
    orphan.iter_mut().find(|(name, _)| *name == "CallSid").unwrap().1 = "CA-never-heard-of";
    assert_eq!(line.post("voice-status", &orphan).await.status, 204);
    let kept = line.kept(7).await;
    assert_eq!(kept.len(), 2);
    let call = &kept.iter().find(|(call, _)| call.carrier_call_id == "CA1").unwrap().0;
    assert_eq!((call.status, call.duration_s, call.timeline_count), (CallStatus::Completed, Some(49), 6));
    assert_eq!(call.ended_at.unwrap().to_string(), "2026-11-23T15:31:00.999Z");
    let orphan = &kept.iter().find(|(call, _)| call.carrier_call_id == "CA-never-heard-of").unwrap().0;
    assert_eq!((orphan.status, orphan.decision.is_none()), (CallStatus::Completed, true));
    let workspace = line.workspace;
    let events = line
        .app
        .database
        .read(move |read| database::events::event_list(read, workspace, 0, 100))
        .await
        .unwrap()
        .into_iter()
        .filter(|entry| entry.event.kind.as_str().starts_with("call."))
        .map(|entry| entry.event.kind.as_str())
        .collect::<Vec<_>>();
    assert_eq!(events, ["call.started", "call.ended", "call.started", "call.ended"]);
}

/// A target that was saved when it was allowed, or when it was somebody else's number.
#[tokio::test]
async fn what_must_not_be_called_is_left_out_when_the_call_comes() {
    let to = |text: &str| Dial {
        target: Target::Phone { phone_number: text.parse().unwrap() },
        ring_timeout_s: 20,
    };
    let line = Line::open(Laid {
        fallback: Some(fallback(vec![to("+5351234567"), to("+14385550100"), phone(1)], None)),
        ..Laid::dial(to("+19005550123"))
    })
    .await;
    let twiml = line.voice("CA1").await;
    assert!(twiml.contains("<Number>+14385550101</Number>"), "{twiml}");
    let last = line.after(&twiml, "CA1", &[("DialCallStatus", "busy")]).await;
    assert!(last.contains("<Say>"), "{last}");
}
