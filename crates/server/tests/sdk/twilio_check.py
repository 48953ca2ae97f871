"""Uses the simulated carrier through the carrier's official SDK, the way its customers do.

    python twilio_check.py BASE_URL ACCOUNT_SID AUTH_TOKEN

Fails with the first thing that the SDK does not find as the carrier has it. Everything it does is on this machine.
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

BASE_URL, ACCOUNT_SID, AUTH_TOKEN = sys.argv[1:4]


def client_for(sid=ACCOUNT_SID, token=AUTH_TOKEN, account=None):
    client = Client(sid, token, account)
    client.api.base_url = BASE_URL
    return client


def refused(code, status, action):
    """The action must fail with this code and status."""
    try:
        action()
    except TwilioRestException as error:
        assert (error.code, error.status) == (code, status), f"expected {code}/{status}, got {error.code}/{error.status}: {error.msg}"
        assert error.msg, "an error says something"
        return error
    raise AssertionError(f"expected error {code}, but it was accepted")


def check_account(client):
    account = client.api.accounts(ACCOUNT_SID).fetch()
    assert account.sid == ACCOUNT_SID and account.status == "active" and account.type == "Full"
    assert account.date_created.tzinfo is not None, "dates are parsed"
    balance = client.api.v2010.accounts(ACCOUNT_SID).balance.fetch()
    assert balance.currency == "USD" and float(balance.balance) >= 0
    refused(20003, 401, client_for(token="0" * 32).api.accounts(ACCOUNT_SID).fetch)


def check_search(client):
    countries = {country.country_code: country for country in client.available_phone_numbers.list()}
    assert set(countries) == {"US", "CA", "GB", "FR"}, countries
    assert set(countries["GB"].subresource_uris) == {"local", "mobile", "national", "toll_free"}
    us = client.available_phone_numbers("US")
    found = us.local.list(area_code=415, limit=5)
    assert len(found) == 5
    for number in found:
        assert number.phone_number.startswith("+1415555"), number.phone_number
        assert number.locality == "San Francisco" and number.region == "CA" and number.iso_country == "US"
        assert number.capabilities["voice"] is True and "SMS" in number.capabilities
        assert number.address_requirements == "none"
    assert all(n.capabilities["MMS"] for n in us.local.list(mms_enabled=True, limit=30))
    assert all("0199" in n.phone_number for n in us.local.list(contains="0199", limit=30))
    assert all(n.region == "NY" for n in us.local.list(in_region="NY", limit=30))
    assert us.toll_free.list(limit=1)[0].phone_number[:5] in {"+1800", "+1833", "+1844", "+1855", "+1866", "+1877", "+1888"}
    assert client.available_phone_numbers("CA").local.list(in_locality="Montreal", limit=1)
    assert client.available_phone_numbers("GB").mobile.list(limit=1)[0].phone_number.startswith("+447700900")
    french = client.available_phone_numbers("FR").local
    assert any(n.address_requirements == "local" for n in french.list(limit=50))
    assert all(n.address_requirements == "none" for n in french.list(exclude_all_address_required=True, limit=50))
    assert client.available_phone_numbers("US").local.list(area_code=999, limit=5) == []
    refused(20404, 404, client.available_phone_numbers("ZZ").fetch)
    try:
        us.mobile.list(limit=1)
    except TwilioException as error:
        # The SDK has no code for a list that is refused, only the answer's text.
        assert "404" in str(error), error
    else:
        raise AssertionError("there are no mobile numbers in the United States")
    return found


def check_numbers(client, candidates):
    numbers = client.incoming_phone_numbers
    bought = numbers.create(
        phone_number=candidates[0].phone_number,
        friendly_name="sb:int_0001",
        voice_url="https://pbx.example.com/voice",
        voice_fallback_url="https://other.example.com/voice",
        status_callback="https://pbx.example.com/status",
    )
    assert bought.phone_number == candidates[0].phone_number and bought.friendly_name == "sb:int_0001"
    assert bought.voice_url == "https://pbx.example.com/voice" and bought.voice_method == "POST"
    assert bought.capabilities["voice"] is True and "sms" in bought.capabilities
    assert bought.trunk_sid is None and bought.origin == "twilio" and bought.status == "in-use"
    refused(21422, 400, lambda: numbers.create(phone_number=candidates[0].phone_number))
    refused(21421, 400, lambda: numbers.create(phone_number="555"))
    refused(21205, 400, lambda: numbers.create(phone_number=candidates[1].phone_number, voice_url="not a url"))
    refused(21631, 400, lambda: numbers.create(phone_number=address_needed(client)))
    refused(21422, 400, lambda: numbers.create(phone_number="+15005550000"))
    refused(21421, 400, lambda: numbers.create(phone_number="+15005550001"))
    refused(21452, 400, lambda: numbers.create(area_code="533"))
    assert numbers.create(phone_number="+15005550006").phone_number == "+15005550006"

    assert [n.sid for n in numbers.list(phone_number=bought.phone_number)] == [bought.sid]
    assert [n.sid for n in numbers.list(friendly_name="sb:int_0001")] == [bought.sid]
    assert numbers.list(friendly_name="sb:int") == [], "the name is matched exactly"

    changed = numbers(bought.sid).update(friendly_name="Reception", voice_application_sid="AP" + "1" * 32)
    assert changed.friendly_name == "Reception" and changed.voice_url == "https://pbx.example.com/voice"
    changed = numbers(bought.sid).update(trunk_sid="TK" + "2" * 32)
    assert changed.trunk_sid == "TK" + "2" * 32 and not changed.voice_application_sid
    changed = numbers(bought.sid).update(trunk_sid="", voice_fallback_url="")
    assert not changed.trunk_sid and not changed.voice_fallback_url
    assert numbers(bought.sid).fetch().friendly_name == "Reception"

    others = [numbers.create(area_code="212") for _ in range(6)]
    assert all(number.phone_number.startswith("+1212555") for number in others)
    pages = []
    page = numbers.page(page_size=3)
    while page is not None:
        pages.append([number.sid for number in page])
        page = page.next_page()
    assert [len(page) for page in pages] == [3, 3, 1], pages
    assert sorted(sum(pages, [])) == sorted([bought.sid] + [n.sid for n in others])
    assert len(numbers.list(page_size=2)) == 7

    for number in others:
        assert numbers(number.sid).delete() is True
    refused(20404, 404, numbers(others[0].sid).fetch)
    refused(20404, 404, numbers(others[0].sid).delete)
    return bought


def address_needed(client):
    french = client.available_phone_numbers("FR").local.list(limit=50)
    return next(n.phone_number for n in french if n.address_requirements == "local")


class Receiver(BaseHTTPRequestHandler):
    """Takes callbacks, remembers them, and answers the voice ones."""

    seen = []
    lock = threading.Lock()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.take(self.rfile.read(length).decode())

    def do_GET(self):
        self.take(None)

    def take(self, body):
        with self.lock:
            self.seen.append((self.path, self.headers, body))
        answer = b"<Response><Say>Hello from a test</Say></Response>"
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def control(method, path, body=None):
    request = urllib.request.Request(
        f"{BASE_URL}/_control/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def check_callbacks(client, bought):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    numbers = client.incoming_phone_numbers
    numbers(bought.sid).update(
        voice_url=f"{url}/voice?number={bought.sid}", voice_method="POST", status_callback=f"{url}/status"
    )
    story = control("POST", "calls", {"to": bought.phone_number, "from": "+15145550100", "caller_name": "Zoë & co", "wait": True})
    assert story["status"] == "completed" and story["spoken"] == ["Hello from a test"], story
    numbers(bought.sid).update(voice_url=f"{url}/voice-get", voice_method="GET")
    control("POST", "calls", {"to": bought.phone_number, "from": "+15145550100", "wait": True})

    validator = RequestValidator(AUTH_TOKEN)
    by_path = {}
    for path, headers, body in Receiver.seen:
        params = {} if body is None else {k: v[0] for k, v in parse_qs(body, keep_blank_values=True).items()}
        signature = headers["X-Twilio-Signature"]
        assert validator.validate(url + path, params, signature), f"signature of {path}"
        assert not validator.validate(url + path + "x", params, signature)
        assert not RequestValidator("0" * 32).validate(url + path, params, signature)
        assert headers["I-Twilio-Idempotency-Token"]
        queried = {k: v[0] for k, v in parse_qs(urlsplit(path).query, keep_blank_values=True).items()}
        by_path[urlsplit(path).path] = params or queried
    assert set(by_path) == {"/voice", "/voice-get", "/status"}, set(by_path)
    assert by_path["/voice"]["CallStatus"] == "ringing" and by_path["/voice"]["CallerName"] == "Zoë & co"
    assert by_path["/voice"]["ToCity"] == "SAN FRANCISCO"
    assert by_path["/voice-get"]["Direction"] == "inbound"
    assert by_path["/status"]["CallStatus"] == "completed" and by_path["/status"]["SequenceNumber"] == "0"
    server.shutdown()


def check_calls(client, bought):
    assert len(client.calls.list(to=bought.phone_number)) == 2
    call = client.calls.create(
        to="+14155550188", from_=bought.phone_number, twiml="<Response><Pause length='60'/></Response>"
    )
    assert call.status == "queued" and call.direction == "outbound-api" and call.start_time is None
    deadline = threading.Event()
    for _ in range(200):
        if client.calls(call.sid).fetch().status == "in-progress":
            break
        deadline.wait(0.02)
    ended = client.calls(call.sid).update(status="completed")
    assert ended.sid == call.sid
    for _ in range(200):
        if client.calls(call.sid).fetch().status == "completed":
            break
        deadline.wait(0.02)
    done = client.calls(call.sid).fetch()
    assert done.status == "completed" and done.duration is not None and done.end_time is not None, done.status
    refused(21220, 400, lambda: client.calls(call.sid).update(status="completed"))
    assert [c.sid for c in client.calls.list(status="completed", from_=bought.phone_number)] == [call.sid]
    fine = dict(url="https://pbx.example.com/voice", from_="+15005550006")
    for to, code in [("+15005550001", 21217), ("+15005550002", 21214), ("+15005550003", 21215), ("+15005550004", 21216)]:
        refused(code, 400, lambda to=to: client.calls.create(to=to, **fine))
    refused(21212, 400, lambda: client.calls.create(to="+14155550188", from_="+15005550001", url=fine["url"]))
    refused(21210, 400, lambda: client.calls.create(to="+14155550188", from_="+14155550189", url=fine["url"]))
    refused(21205, 400, lambda: client.calls.create(to="+14155550188", from_="+15005550006", url="ftp://x"))
    refused(20404, 404, client.calls("CA" + "0" * 32).fetch)
    assert client.calls(call.sid).delete() is True


def check_signature_by_hand():
    """The vector that every SDK carries, so that this script itself is known to be right."""
    data = "https://mycompany.com/myapp.php?foo=1&bar=2CallSidCA1234567890ABCDECaller+14158675309Digits1234From+14158675309To+18005551212"
    digest = hmac.new(b"12345", data.encode(), hashlib.sha1).digest()
    assert base64.b64encode(digest).decode() == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def main():
    client = client_for()
    check_signature_by_hand()
    check_account(client)
    candidates = check_search(client)
    bought = check_numbers(client, candidates)
    check_callbacks(client, bought)
    check_calls(client, bought)
    assert client.incoming_phone_numbers(bought.sid).delete() is True
    assert client.incoming_phone_numbers.list() == []
    print("the official SDK finds everything as the carrier has it")


main()
