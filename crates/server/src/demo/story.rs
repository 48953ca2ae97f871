//! The story: what a team does with Switchboard, from an empty workspace to a call that its agent answers, asked of the REST API
//! like any program asks it. Each step proves what it tells: where something is not as it should be, the story ends with an error.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::CALL_LENGTH;
use super::agent::GREETING_MARK;
use super::door::{Ask, Door, Reply};
use super::page::{Ink, Page, columns, indented};
use crate::clock::Clock;

/// Who calls: a number reserved for fiction that the carrier does not sell.
const CALLER: &str = "+15145550199";
/// Where a number is looked for: Montréal.
const SEARCH: &str = "/v1/store/numbers?country=CA&area_code=514&limit=3";
/// The key that makes a purchase happen once, however often it is asked for.
const IDEMPOTENCY_KEY: &str = "demo-first-number";
/// How long an order, and a record on its way to the database, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often is looked whether it is there. The order of a number takes a few of these.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What happened in a call, as its record says, is told up to so many lines.
const RECORD_LINES_MAX: usize = 12;

/// The visitor, and the doors it knocks at.
#[derive(Clone, Copy)]
pub(super) struct Story<'a> {
    /// Where it is told.
    pub(super) page: Page,
    /// Switchboard's API, with an owner's key.
    pub(super) api: &'a Door,
    /// The simulated carrier's control endpoint.
    pub(super) carrier: &'a Door,
    /// Where the agent listens.
    pub(super) agent_url: &'a str,
    /// Measures what took long.
    pub(super) clock: &'a dyn Clock,
}

/// What the story has made, for whoever goes on from there.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The number that was bought.
    pub(super) phone_number: String,
    /// Who called it.
    pub(super) caller: String,
    /// How long they stayed.
    pub(super) call_length: Duration,
}

/// An agent with the variant that is to answer.
struct Agent {
    id: String,
    variant_id: String,
}

/// A bought number.
struct Bought {
    id: String,
    phone_number: String,
}

impl Story<'_> {
    /// Tells it from beginning to end.
    pub(super) async fn tell(self) -> anyhow::Result<Told> {
        let agent = self.agent_create().await?;
        let number = self.number_buy().await?;
        self.publish(&agent).await?;
        self.assign(&number, &agent).await?;
        self.explain(&number, &agent).await?;
        let call_sid = self.call(&number).await?;
        self.record(&call_sid).await?;
        Ok(Told { phone_number: number.phone_number, caller: CALLER.to_owned(), call_length: CALL_LENGTH })
    }

    async fn agent_create(self) -> anyhow::Result<Agent> {
        self.page.step(1, "An agent, with two sites");
        let created = self.post("/v1/agents", &json!({"name": "Reception"})).await?;
        let id = text(&created, "id")?.to_owned();
        let draft = json!({
            "endpoint": {"type": "stream", "url": self.agent_url},
            "language": "fr-CA",
            "call_parameters": {"company": "Exemple inc."},
            "fallback": {"message": "Toutes nos lignes sont occupées. Merci de rappeler plus tard."},
        });
        self.send(&Method::PATCH, &format!("/v1/agents/{id}/draft"), &draft).await?;
        let variants = format!("/v1/agents/{id}/variants");
        let mut ids = Vec::new();
        for (name, time_zone) in [("Montréal", "America/Toronto"), ("Paris", "Europe/Paris")] {
            let variant = json!({"name": name, "attributes": {"city": name, "time_zone": time_zone}});
            let variant = self.post(&variants, &variant).await?;
            ids.push(text(&variant, "id")?.to_owned());
        }
        let shown = self.api.read(&format!("/v1/agents/{id}")).await?.body;
        let sites: Vec<&str> = list(&shown, "variants").iter().filter_map(|v| v["name"].as_str()).collect();
        ensure!(sites == ["Montréal", "Paris"], "the agent's variants are {sites:?}");
        self.page.good(&format!(
            "Reception answers at {}, as {}. So far it is a draft: no call can reach it.",
            self.agent_url,
            sites.join(" or as ")
        ));
        Ok(Agent { id, variant_id: ids.swap_remove(0) })
    }

    async fn number_buy(self) -> anyhow::Result<Bought> {
        self.page.step(2, "A number from the store");
        let found = self.get(SEARCH).await?;
        let offers = list(&found, "data");
        let offer = offers.first().context("the store has nothing to sell in this area code")?;
        let rows: Vec<Vec<String>> = offers
            .iter()
            .map(|offer| {
                let place = format!("{}, {}", plain(&offer["locality"]), plain(&offer["region"]));
                let price = format!("{} a month", money(&offer["monthly_price"]));
                vec![plain(&offer["phone_number"]), place, plain(&offer["capabilities"]), price]
            })
            .collect();
        self.page.tell(&columns(&rows));
        let order = json!({"quote_id": text(offer, "quote_id")?, "label": "Front door"});
        let begun = self.clock.monotonic();
        let first = self.buy(&order).await?;
        let id = text(&first.body, "id")?.to_owned();
        let number = self.wait_until_active(first.body).await?;
        let took = self.clock.monotonic().saturating_sub(begun);
        let phone_number = text(&number, "phone_number")?.to_owned();
        let kept = self.carrier.read("/_control/numbers").await?.body;
        let kept: Vec<&Value> = kept.as_array().into_iter().flatten().collect();
        let [at_carrier] = kept.as_slice() else {
            anyhow::bail!("the carrier has sold {} numbers, not one", kept.len())
        };
        ensure!(at_carrier["phone_number"] == *phone_number, "the carrier has sold another number");
        self.page.good(&format!(
            "{phone_number} is ours after {} ms, for {}: the carrier calls it {}.",
            took.as_millis(),
            money(&offer["monthly_price"]) + " a month",
            plain(&at_carrier["sid"]),
        ));

        // The same once more, as after an answer that was lost on its way.
        let again = self.buy(&order).await?;
        ensure!(again.replayed && again.body["id"] == *id, "the purchase was not replayed");
        let sold = self.carrier.read("/_control/ledger").await?.body;
        let sold = sold.as_array().into_iter().flatten().filter(|row| row["effect"] == "number_purchased");
        let sold = sold.count();
        ensure!(sold == 1, "the carrier has sold {sold} numbers, not one");
        self.page.good(
            "Asked for twice with one Idempotency-Key, it was bought once: the carrier's ledger says so.",
        );
        Ok(Bought { id, phone_number })
    }

    async fn buy(self, order: &Value) -> anyhow::Result<Reply> {
        let path = "/v1/numbers/buy";
        let ask =
            Ask { method: &Method::POST, path, body: Some(order), idempotency_key: Some(IDEMPOTENCY_KEY) };
        let reply = self.api.ask(ask).await?;
        self.page.request("POST", path, reply.status, reply.took);
        Ok(reply)
    }

    /// An order is a promise first; the number is there when the carrier has it and is set up to send us its calls.
    async fn wait_until_active(self, mut number: Value) -> anyhow::Result<Value> {
        let path = format!("/v1/numbers/{}", text(&number, "id")?);
        let deadline = self.clock.monotonic() + PATIENCE;
        self.page.tell(&self.page.paint(
            Ink::Dim,
            &format!("{} is {} …", plain(&number["phone_number"]), plain(&number["status"])),
        ));
        loop {
            match text(&number, "status")? {
                "active" => return Ok(number),
                "ordering" => {}
                other => anyhow::bail!("the number is {other}: {}", plain(&number["status_reason"])),
            }
            ensure!(
                self.clock.monotonic() < deadline,
                "the number is still being ordered after {PATIENCE:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
            number = self.api.read(&path).await?.body;
        }
    }

    async fn publish(self, agent: &Agent) -> anyhow::Result<()> {
        self.page.step(3, "The draft is published, and promoted to live");
        let agent = &agent.id;
        self.post(&format!("/v1/agents/{agent}/publish"), &json!({})).await?;
        let promote = format!("/v1/agents/{agent}/promote");
        self.post(&promote, &json!({"from": "sandbox", "to": "pre_release"})).await?;
        self.post(&promote, &json!({"from": "pre_release", "to": "live"})).await?;
        let running = self.api.read(&format!("/v1/agents/{agent}")).await?.body["running"].take();
        let versions = ["sandbox", "pre_release", "live"].map(|environment| running[environment].as_u64());
        ensure!(versions == [Some(1); 3], "the environments run {running}");
        self.page.good("Version 1 is frozen, and runs in sandbox, pre_release and live.");
        Ok(())
    }

    async fn assign(self, number: &Bought, agent: &Agent) -> anyhow::Result<()> {
        self.page.step(4, "The number is assigned to the agent's Montréal site");
        let assignment = json!({"agent_id": agent.id, "environment": "live", "variant_id": agent.variant_id});
        self.send(&Method::PUT, &format!("/v1/numbers/{}/assignment", number.id), &assignment).await?;
        self.page
            .good(&format!("From now on a call to {} reaches Reception in Montréal.", number.phone_number));
        Ok(())
    }

    async fn explain(self, number: &Bought, agent: &Agent) -> anyhow::Result<()> {
        self.page.step(5, "Where would a call go, and why? Nobody has called yet");
        let question = json!({"to": number.phone_number, "from": CALLER});
        let explained = self.post("/v1/routes/explain", &question).await?;
        let decision = &explained["decision"];
        self.decision(decision, list(&explained, "steps"));
        let target = &decision["targets"][0];
        ensure!(decision["action"] == "connect", "the call would not be connected");
        ensure!(target["address"] == *self.agent_url, "the call would go elsewhere");
        ensure!(decision["variant_id"] == *agent.variant_id, "another variant would answer");
        Ok(())
    }

    /// A decision in words: what is done, what is tried in order, and every rule that had a say.
    fn decision(self, decision: &Value, steps: &[Value]) {
        self.page.good(&sentence(&plain(&decision["summary"])));
        for (place, target) in (1..).zip(list(decision, "targets")) {
            let (kind, address) = (plain(&target["type"]), plain(&target["address"]));
            self.page.tell(&format!("  {place}. {kind} {address}"));
        }
        if decision["message"].is_string() {
            self.page.tell(&format!("  then say “{}”", plain(&decision["message"])));
        }
        let rows: Vec<Vec<String>> = steps
            .iter()
            .map(|step| ["rule", "outcome", "because"].map(|name| plain(&step[name])).to_vec())
            .collect();
        self.page.tell("");
        self.page.tell(&columns(&rows));
    }

    /// Calls the number, and answers with the carrier's name for the call.
    async fn call(self, number: &Bought) -> anyhow::Result<String> {
        let to = &number.phone_number;
        self.page.step(6, &format!("{CALLER} calls {to}"));
        let call = json!({
            "to": to,
            "from": CALLER,
            "hangup_after_ms": u64::try_from(CALL_LENGTH.as_millis()).unwrap_or(u64::MAX),
            "wait": true,
        });
        let ask =
            Ask { method: &Method::POST, path: "/_control/calls", body: Some(&call), idempotency_key: None };
        let seen = self.carrier.ask(ask).await?.body;
        let timeline = list(&seen, "timeline");
        let asked = timeline.iter().find(|event| event["operation"] == "callback.voice");
        let asked = asked.context("the carrier did not ask what to do with the call")?;
        self.page.tell(&format!(
            "The carrier asks what to do, in a signed request, and is answered in {} ms:",
            asked["took_ms"]
        ));
        self.page.tell("");
        let twiml = indented(&plain(&asked["answer"])).context("the answer is not XML")?;
        for line in twiml.lines() {
            self.page.tell(&format!("  {}", self.page.paint(Ink::Cyan, line)));
        }
        self.page.tell("\nWhat the carrier saw:");
        let rows: Vec<Vec<String>> = timeline
            .iter()
            .filter_map(|event| Some(vec![format!("{:>6} ms", event["ms"].as_u64()?), happened(event)?]))
            .collect();
        self.page.tell(&columns(&rows));
        self.heard(&seen)?;
        Ok(text(&seen, "sid")?.to_owned())
    }

    /// What came out of the caller's telephone.
    fn heard(self, seen: &Value) -> anyhow::Result<()> {
        let errors = list(seen, "errors");
        ensure!(errors.is_empty(), "the carrier complains: {errors:?}");
        let stream = list(seen, "streams").first().context("no stream was opened")?;
        let number = |name: &str| stream[name].as_u64().unwrap_or(0);
        let (frames, hundredths) = (number("frames_heard"), number("heard_ms") / 10);
        ensure!(hundredths > 0 && number("peak_heard") > 0, "the caller heard nothing");
        let greeted = list(stream, "marks_returned").iter().any(|mark| mark == GREETING_MARK);
        ensure!(greeted, "the caller did not hear the greeting to its end");
        self.page.good(&format!(
            "The caller heard the agent {} ms after the stream was opened: {}.{:02} s of sound, of {frames} frames sent –",
            number("first_audio_ms"),
            hundredths / 100,
            hundredths % 100,
        ));
        self.page.tell("  the greeting whole, then their own voice.");
        // What begins with our own name are ids, as above.
        let parameters: Vec<String> = stream["parameters"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !name.starts_with("switchboard_"))
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect();
        self.page.tell(&format!("  The agent was told which site is called: {}.", parameters.join(", ")));
        Ok(())
    }

    /// What is kept of the call, a moment later.
    async fn record(self, call_sid: &str) -> anyhow::Result<()> {
        self.page.step(7, "What is kept of the call");
        let deadline = self.clock.monotonic() + PATIENCE;
        // What the carrier reports arrives in whatever order; the record is whole when it says both how and when the call ended.
        let id = loop {
            let listed = self.api.read("/v1/calls?limit=10").await?.body;
            let calls = list(&listed, "data");
            let found = calls.iter().find(|call| call["carrier_call_id"] == call_sid);
            if let Some(call) = found
                && call["ended_at"].is_string()
                && call["outcome"] == "answered"
            {
                break text(call, "id")?.to_owned();
            }
            ensure!(
                self.clock.monotonic() < deadline,
                "the records do not say after {PATIENCE:?} that the agent answered: {found:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let call = self.get(&format!("/v1/calls/{id}")).await?;
        let rows = [
            ["status", &plain(&call["status"])],
            ["outcome", &plain(&call["outcome"])],
            ["decision", &plain(&call["decision"]["summary"])],
            ["reasons", &format!("{} steps, those that were explained above", list(&call, "steps").len())],
            ["at the carrier", call_sid],
        ];
        self.page.tell(&columns(&rows.map(|row| row.map(str::to_owned).to_vec())));
        let events: Vec<Vec<String>> = list(&call, "timeline")
            .iter()
            .take(RECORD_LINES_MAX)
            .map(|event| vec![clock_time(&event["at"]), plain(&event["kind"]), details(&event["detail"])])
            .collect();
        self.page.tell("");
        self.page.tell(&columns(&events));
        ensure!(!list(&call, "steps").is_empty(), "the record has no reasons");
        self.page.good("The same decision, with the same reasons, is kept with the call.");
        Ok(())
    }

    async fn get(self, path: &str) -> anyhow::Result<Value> {
        let reply = self.api.read(path).await?;
        self.page.request("GET", &shortened(path), reply.status, reply.took);
        Ok(reply.body)
    }

    async fn post(self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(&Method::POST, path, body).await
    }

    async fn send(self, method: &Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let reply = self.api.ask(Ask { method, path, body: Some(body), idempotency_key: None }).await?;
        self.page.request(method.as_str(), &shortened(path), reply.status, reply.took);
        Ok(reply.body)
    }
}

/// One event of the carrier's timeline in words; those that only repeat others are left out.
fn happened(event: &Value) -> Option<String> {
    let of = |name: &str| plain(&event[name]);
    Some(match event["event"].as_str()? {
        "request" => {
            let what = match event["operation"].as_str()? {
                "callback.voice" => "the call comes in: what to do with it?",
                "callback.action" => "the agent's part is over: what now?",
                "callback.status" => "how the call ended",
                _ => "a callback",
            };
            format!("asked Switchboard – {what} → {} in {} ms", of("status"), of("took_ms"))
        }
        "verb" => format!("follows <{}>", of("verb")),
        "answered" => "the call is answered".to_owned(),
        "stream-started" => "the media stream to the agent is open".to_owned(),
        "stream-stopped" => "the media stream is closed".to_owned(),
        "hung_up" => format!("the {} hangs up", of("by")),
        "ended" => format!("the call is over: {}", of("status")),
        "error" => format!("error {}: {}", of("code"), of("message")),
        "remark" => of("text"),
        _ => return None,
    })
}

/// The list in a field; an empty one where there is none.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text that has to be there.
fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("the answer has no {name}"))
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let set = fields.iter().filter(|(_, value)| **value != Value::Bool(false));
            set.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn money(value: &Value) -> String {
    format!("{} {}", plain(&value["amount"]), plain(&value["currency"]))
}

/// What is told of the details of something that happened, in this order.
const DETAILS: [&str; 5] = ["told", "type", "address", "result", "origin"];

/// The details of something that happened: what we made of it, else what the carrier said.
fn details(detail: &Value) -> String {
    let told: Vec<String> =
        DETAILS.iter().map(|name| &detail[*name]).filter(|value| !value.is_null()).map(plain).collect();
    if told.is_empty() { plain(&detail["CallStatus"]) } else { told.join(", ") }
}

/// The time of a day, of an RFC 3339 time.
fn clock_time(at: &Value) -> String {
    let text = plain(at);
    text.split_once('T').map_or(text.as_str(), |(_, time)| time.trim_end_matches('Z')).to_owned()
}

/// A first letter in capitals, and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// A path without its query's details and with ids cut to what tells them apart from other kinds: `agt_…`.
fn shortened(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.split_once('_') {
        Some((kind, rest)) if kind.len() == 3 && rest.len() >= 20 && !rest.contains(['?', '_']) => {
            format!("{kind}_…")
        }
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_paths_are_shortened_and_nothing_else() {
        for (path, shown) in [
            ("/v1/agents/agt_01kb5x3a7m0000000000000000/draft", "/v1/agents/agt_…/draft"),
            (SEARCH, SEARCH),
            ("/v1/numbers/buy", "/v1/numbers/buy"),
        ] {
            assert_eq!(shortened(path), shown);
        }
    }

    #[test]
    fn values_are_told_in_words() {
        assert_eq!(plain(&json!(["voice", "sms"])), "voice sms");
        assert_eq!(plain(&json!({"voice": true, "sms": false})), "voice");
        assert_eq!(money(&json!({"amount": "1.15", "currency": "CAD"})), "1.15 CAD");
        assert_eq!(sentence("the call is connected"), "The call is connected.");
        assert_eq!(clock_time(&json!("2026-11-21T22:00:00.123Z")), "22:00:00.123");
    }
}
