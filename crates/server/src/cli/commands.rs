//! What a route of the API is called on the command line: the API's advice names routes, and whoever typed a command wants a command.

/// Each route that a command stands for: method, path, and the command. `{}` stands for one segment of the path; `<name>` in a
/// command is the field of that name in the JSON that follows the route, where it does.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("GET", "/v1/agents", "agents list"),
    ("GET", "/v1/agents/{}/variants", "agents variants list AGENT"),
    ("GET", "/v1/agents/{}/versions", "agents versions AGENT"),
    ("PATCH", "/v1/agents/{}/draft", "agents draft set AGENT"),
    ("POST", "/v1/agents/{}/publish", "agents publish AGENT"),
    ("POST", "/v1/agents/{}/promote", "agents promote AGENT --from <from> --to <to>"),
    ("GET", "/v1/numbers", "numbers list"),
    ("GET", "/v1/numbers/{}", "numbers show NUMBER"),
    ("PATCH", "/v1/numbers/{}", "numbers set NUMBER --release-lock <release_lock>"),
    ("PUT", "/v1/numbers/{}/assignment", "numbers assign NUMBER --agent AGENT --environment ENVIRONMENT"),
    ("POST", "/v1/numbers/{}/release/cancel", "numbers cancel-release NUMBER"),
    ("GET", "/v1/store/numbers", "numbers search --country COUNTRY"),
    ("POST", "/v1/api-keys", "keys create"),
];

/// The text with commands in place of those routes that have one. What has none stays: the API can do it.
pub(super) fn with_commands(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, route, behind)) = next_route(rest) {
        out.push_str(before);
        let (arguments, behind) = arguments(behind);
        match command(route, &arguments) {
            Some(command) => {
                out.push('`');
                out.push_str("switchboard ");
                out.push_str(&command);
                out.push('`');
            }
            None => out.push_str(&rest[before.len()..rest.len() - behind.len()]),
        }
        rest = behind;
    }
    out + rest
}

/// The first route in a text: what is before it, the route, and what is behind it.
fn next_route(text: &str) -> Option<(&str, &str, &str)> {
    let begin = ["GET /v1/", "POST /v1/", "PUT /v1/", "PATCH /v1/", "DELETE /v1/"]
        .iter()
        .filter_map(|method| text.find(method))
        .min()?;
    let path = begin + text[begin..].find('/')?;
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '{' | '}');
    let end = text[path..].find(|c| !is_of_path(c)).map_or(text.len(), |length| path + length);
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

/// The JSON behind a route, if there is some, and what is behind that.
fn arguments(text: &str) -> (serde_json::Value, &str) {
    if let Some(json) = text.strip_prefix(' ').filter(|json| json.starts_with('{'))
        && let Some(end) = json.find('}')
        && let Ok(value) = serde_json::from_str(&json[..=end])
    {
        return (value, &json[end + 1..]);
    }
    (serde_json::Value::Null, text)
}

fn command(route: &str, arguments: &serde_json::Value) -> Option<String> {
    let (method, path) = route.split_once(' ')?;
    let matches = |pattern: &str| {
        let (mut asked, mut known) = (path.split('/'), pattern.split('/'));
        loop {
            match (asked.next(), known.next()) {
                (None, None) => return true,
                (Some(_), Some("{}")) => {}
                (Some(asked), Some(known)) if asked == known => {}
                _ => return false,
            }
        }
    };
    let (.., command) = COMMANDS.iter().find(|(known, pattern, _)| *known == method && matches(pattern))?;
    let mut command = (*command).to_owned();
    for (name, value) in arguments.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command = command.replace(&format!("<{name}>"), &value);
    }
    // An option whose value is not known is left out.
    if let Some(unknown) = command.find(" --release-lock <") {
        command.truncate(unknown);
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn routes_are_told_as_commands() {
        let told: Vec<String> = [
            "set one with PATCH /v1/agents/{id}/draft",
            "promote sandbox to pre_release with POST /v1/agents/agt_1/promote {\"from\":\"sandbox\",\"to\":\"pre_release\"}, then assign the number",
            "List the agents of this workspace with GET /v1/agents.",
            "take it off first with PATCH /v1/numbers/num_1 {\"release_lock\":false}",
            "see GET /v1/store/countries for what can be bought where",
            "POST /v1/agents/{id}/publish; keep it with POST /v1/numbers/num_1/release/cancel",
            "no route at all {\"a\":1}",
        ]
        .iter()
        .map(|text| with_commands(text))
        .collect();
        expect![[r#"
            set one with `switchboard agents draft set AGENT`
            promote sandbox to pre_release with `switchboard agents promote AGENT --from sandbox --to pre_release`, then assign the number
            List the agents of this workspace with `switchboard agents list`.
            take it off first with `switchboard numbers set NUMBER --release-lock false`
            see GET /v1/store/countries for what can be bought where
            `switchboard agents publish AGENT`; keep it with `switchboard numbers cancel-release NUMBER`
            no route at all {"a":1}"#]]
        .assert_eq(&told.join("\n"));
    }
}
