from __future__ import annotations

import asyncio
import gzip
import json
import logging
import math
import pickle
from email.utils import formatdate

import httpx
import pytest

from mlfleet.clients.auth import Credentials, Tls
from mlfleet.clients.calls import Expect, LongQuery, address, segment
from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy, Timeouts
from mlfleet.errors import (
    AuthError,
    ConfigError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    RemoteError,
    RequestRefused,
    TransientError,
    UnexpectedAnswer,
)

from .support import Server, Time, answer, client, page, run

AFTER_SENDING = [
    httpx.ReadTimeout(""),
    httpx.WriteTimeout(""),
    httpx.ReadError("connection reset by peer"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    answer({"message": "boom"}, 500),
    answer({}, 502),
    answer({}, 503),
    answer({}, 504),
    answer({}, 408),
]
BEFORE_SENDING = [
    httpx.ConnectError("[Errno 111] Connection refused"),
    httpx.ConnectTimeout(""),
    httpx.PoolTimeout(""),
    answer({}, 429),
]


# Repeating


@pytest.mark.parametrize("failure", AFTER_SENDING + BEFORE_SENDING, ids=repr)
def test_a_get_is_sent_again_until_it_succeeds(failure):
    server, time = Server(failure, failure, answer({"ok": True})), Time()

    assert run(client(server, time).request("GET", "/x")).data == {"ok": True}

    assert len(server.requests) == 3
    assert time.sleeps == [0.5, 1.0]


@pytest.mark.parametrize("failure", AFTER_SENDING, ids=repr)
def test_a_post_is_never_sent_again_once_it_may_have_had_its_effect(failure):
    server, time = Server(failure, answer({"ok": True})), Time()

    with pytest.raises(OutcomeUnknown) as caught:
        run(client(server, time).request("POST", "/x", json={}))

    assert len(server.requests) == 1
    assert time.sleeps == []
    assert "whether the call had its effect is not known" in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("failure", BEFORE_SENDING, ids=repr)
def test_a_post_that_was_not_taken_is_sent_again(failure):
    server = Server(failure, answer({"id": 1}, 201))

    assert run(client(server).request("POST", "/x", json={})).status == 201
    assert len(server.requests) == 2


def test_a_post_that_is_repeatable_is_sent_again_with_the_same_body():
    server = Server(answer({}, 500), answer({}))

    run(client(server).request("POST", "/x", json={"a": 1}, repeatable=True))

    assert [json.loads(r.content) for r in server.requests] == [{"a": 1}, {"a": 1}]


def test_a_patch_is_not_repeatable_and_put_and_delete_are():
    for method, sent in (("PATCH", 1), ("PUT", 5), ("DELETE", 5)):
        server = Server(answer({}, 500))
        with pytest.raises(TransientError):
            run(client(server).request(method, "/x"))
        assert len(server.requests) == sent


def test_the_attempts_are_a_budget_and_the_error_counts_them():
    server, time = Server(answer({"message": "database is locked"}, 500)), Time()

    with pytest.raises(TransientError) as caught:
        run(client(server, time, retry=RetryPolicy(attempts=4)).request("GET", "/x"))

    assert len(server.requests) == 4
    assert time.sleeps == [0.5, 1.0, 2.0]
    assert caught.value.attempts == 4
    assert caught.value.status == 500
    assert str(caught.value) == (
        "test: GET http://remote:8000/x: answered 500 Internal Server Error: database is locked (after 4 attempts)"
    )


def test_the_seconds_are_a_budget():
    server, time = Server(httpx.ReadTimeout("")), Time()

    with pytest.raises(TransientError):
        run(client(server, time, retry=RetryPolicy(attempts=100, total_seconds=10)).request("GET", "/x"))

    assert time.sleeps == [0.5, 1.0, 2.0, 4.0]  # 7.5 s; 8 more would be over


def test_the_time_an_attempt_takes_counts():
    time = Time()

    def slow(request: httpx.Request) -> httpx.Response:
        time.at += 30
        raise httpx.ReadTimeout("", request=request)

    server = Server(slow)
    with pytest.raises(TransientError):
        run(client(server, time, retry=RetryPolicy(attempts=100, total_seconds=65)).request("GET", "/x"))
    assert len(server.requests) == 3


def test_jitter_stays_between_half_and_the_whole_bound():
    policy = RetryPolicy(first_wait=1, max_wait=8)
    assert [policy.wait_for(n, None, lambda: 0.0) for n in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 4, 4]
    assert [policy.wait_for(n, None, lambda: 1.0) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["7", formatdate(1007.0, usegmt=True)])
def test_retry_after_is_honoured(status, value):
    server, time = Server(answer({}, status, retry_after=value), answer({})), Time()

    run(client(server, time).request("GET", "/x"))

    assert time.sleeps == [7.0]


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e9", "٣"])
def test_an_unreadable_retry_after_is_ignored(value):
    def odd(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, headers=[(b"retry-after", value.encode())])

    time = Time()
    run(client(Server(odd, answer({})), time).request("GET", "/x"))
    assert time.sleeps == [0.5]


def test_a_retry_after_beyond_the_budget_ends_the_tries_at_once():
    server, time = Server(answer({}, 429, retry_after="3600")), Time()

    with pytest.raises(TransientError) as caught:
        run(client(server, time).request("GET", "/x"))

    assert len(server.requests) == 1
    assert time.sleeps == []
    assert caught.value.retry_after == 3600


def test_a_server_that_drips_runs_into_the_total_time_out():
    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "application/json"}, stream=Drip())

    options = {"timeouts": Timeouts(total=0.1), "retry": RetryPolicy.once()}
    with pytest.raises(TransientError, match=r"no complete answer within 0\.1 s"):
        run(client(handler, **options).request("GET", "/x"))
    with pytest.raises(OutcomeUnknown):
        run(client(handler, **options).request("POST", "/x"))


def test_cancelling_the_caller_is_not_an_error_of_the_server():
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async def scenario() -> None:
        async with client(never) as http:  # type: ignore[arg-type]
            task = asyncio.create_task(http.request("POST", "/x"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(scenario())


def test_what_a_system_calls_transient_is_transient():
    def locked(status: int, body: bytes) -> bool:
        return status == 405 and not body

    server = Server(httpx.Response(405), answer({}))
    run(client(server, also_transient=locked).request("GET", "/x"))
    assert len(server.requests) == 2
    with pytest.raises(OutcomeUnknown):
        run(client(Server(httpx.Response(405)), also_transient=locked).request("POST", "/x"))
    with pytest.raises(RequestRefused):
        run(client(Server(answer({"detail": "no"}, 405)), also_transient=locked).request("POST", "/x"))


# Refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRefused),
        (401, AuthError),
        (403, AuthError),
        (404, NotFound),
        (409, Conflict),
        (422, RequestRefused),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_is_sent_once_and_named(status, kind, method):
    server = Server(answer({"message": "because"}, status))

    with pytest.raises(kind, match="because") as caught:
        run(client(server).request(method, "/x"))

    assert len(server.requests) == 1
    assert caught.value.status == status
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"code": 5, "message": "run not found", "details": []}, "run not found"),
        ({"error_message": "bad package", "error_details": "long"}, "bad package"),
        ({"timestamp": "now", "status": 404, "error": "Not Found", "message": "no such id"}, "no such id"),
        ({"detail": "No Run matches."}, "No Run matches."),
        ({"name": ["project with this name already exists."]}, "name: project with this name already exists."),
        (["Received non valid yaml"], "Received non valid yaml"),
        (
            {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]},
            "MANIFEST_UNKNOWN: manifest unknown",
        ),
        ({"errors": [{"code": "X", "message": "y", "detail": {"Err": 28}}]}, "its disk is full (X: y)"),
        ("just words", "just words"),
        (None, ""),
    ],
)
def test_every_system_s_explanation_is_found(body, reason):
    with pytest.raises(RequestRefused) as caught:
        run(client(Server(answer(body, 400))).request("GET", "/x"))
    assert caught.value.reason == reason


def test_a_404_page_that_is_not_the_api_s_does_not_mean_that_the_thing_is_missing():
    server = Server(page("<h1>default backend - 404</h1>", 404))
    with pytest.raises(UnexpectedAnswer, match=r"is the address right\?: default backend - 404"):
        run(client(server).request("GET", "/x"))
    assert len(server.requests) == 5
    server = Server(page("<h1>404</h1>", 404))
    with pytest.raises(UnexpectedAnswer):
        run(client(server).request("POST", "/x"))
    assert len(server.requests) == 1


# Redirects


@pytest.mark.parametrize("status", [302, 303, 307])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_to_a_login_page_is_refused_and_named(status, method):
    server = Server(httpx.Response(status, headers={"Location": "/login?state=1"}), answer({}))

    with pytest.raises(AuthError, match=r"redirected to the login page http://remote:8000/login\?state=1"):
        run(client(server).request(method, "/x"))

    assert len(server.requests) == 1


def test_a_login_redirect_shows_no_token():
    target = "https://idp.example.com/authorize?token=abcdef123456&session_state=s3cr3tvalue"
    with pytest.raises(AuthError) as caught:
        run(client(Server(httpx.Response(302, headers={"Location": target}))).request("GET", "/x"))
    assert "abcdef123456" not in str(caught.value)
    assert "s3cr3tvalue" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 308])
def test_a_moved_address_says_what_to_correct(status):
    server = Server(httpx.Response(status, headers={"Location": "https://remote:8000/x"}))
    with pytest.raises(RequestRefused, match="correct the address") as caught:
        run(client(server).request("GET", "/x"))
    assert not isinstance(caught.value, AuthError)


def test_a_redirect_without_a_target_is_refused_too():
    with pytest.raises(AuthError):
        run(client(Server(httpx.Response(302))).request("GET", "/x"))


# Content


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (page(), "text/html.*login page or a proxy"),
        (httpx.Response(200, content=b"{}"), "no Content-Type where JSON"),
        (httpx.Response(200, headers={"Content-Type": "application/json"}), "an empty body"),
        (httpx.Response(200, content=b'{"a": ', headers={"Content-Type": "application/json"}), "cannot be read"),
        (httpx.Response(200, content=b"[" * 100_000, headers={"Content-Type": "application/json"}), "cannot be read"),
        (httpx.Response(204), "an empty body"),
    ],
    ids=["html", "untyped", "empty", "cut off", "too deep", "204"],
)
def test_a_good_status_with_a_bad_body_is_unexpected_for_a_get_and_unknown_for_a_post(response, words):
    server = Server(response)
    with pytest.raises(UnexpectedAnswer, match=words):
        run(client(server).request("GET", "/x"))
    assert len(server.requests) == 5

    server = Server(response)
    with pytest.raises(OutcomeUnknown, match=words):
        run(client(server).request("POST", "/x"))
    assert len(server.requests) == 1


def test_an_empty_answer_once_is_only_a_second_try():
    server = Server(httpx.Response(200), answer({"status": "RUNNING"}))
    assert run(client(server).request("GET", "/x")).data == {"status": "RUNNING"}


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/problem+json"])
def test_json_types(kind):
    server = Server(httpx.Response(200, content=b"[1]", headers={"Content-Type": kind}))
    assert run(client(server).request("GET", "/x")).data == [1]


def test_what_servers_in_python_say_is_read_though_it_is_no_json():
    said = httpx.Response(
        200, content=b'{"loss": NaN, "best": -Infinity}', headers={"Content-Type": "application/json"}
    )
    found = run(client(Server(said)).request("GET", "/")).object()
    assert math.isnan(found["loss"])
    assert found["best"] == -math.inf


def test_an_answer_tells_its_address_without_secrets():
    found = run(client(Server(answer({}))).request("GET", "/x", params={"token": "hush-hush"}))
    assert "hush-hush" not in found.url
    assert "hush-hush" not in repr(found)


def test_where_nothing_is_allowed_nothing_is_fine_and_html_is_not():
    call = {"expect": Expect.JSON_OR_NOTHING}
    assert run(client(Server(httpx.Response(200))).request("PUT", "/x", **call)).data is None
    assert run(client(Server(answer({}))).request("PUT", "/x", **call)).data == {}
    with pytest.raises(UnexpectedAnswer):
        run(client(Server(page())).request("PUT", "/x", **call))


def test_text_may_be_anything_but_a_page():
    server = Server(httpx.Response(200, text="line"))
    assert run(client(server).request("GET", "/x", expect=Expect.TEXT)).content == b"line"
    with pytest.raises(UnexpectedAnswer, match="HTML page"):
        run(client(Server(page())).request("GET", "/x", expect=Expect.TEXT))


def test_gzip_is_honoured():
    def zipped(_: httpx.Request) -> httpx.Response:
        body = gzip.compress(b'{"results": []}')
        return httpx.Response(
            200, content=body, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
        )

    assert run(client(zipped).request("GET", "/x")).data == {"results": []}


def test_broken_gzip_is_unexpected():
    def broken(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"no gzip", headers={"Content-Encoding": "gzip"})

    with pytest.raises(UnexpectedAnswer, match="cannot be decoded"):
        run(client(broken).request("GET", "/x"))
    with pytest.raises(OutcomeUnknown):
        run(client(broken).request("POST", "/x"))


def test_an_endless_answer_is_cut():
    server = Server(answer({"a": "x" * 1000}))
    with pytest.raises(UnexpectedAnswer, match="larger than 100 bytes"):
        run(client(server).request("GET", "/x", max_bytes=100))
    assert len(server.requests) == 1


def test_a_wrong_shape_is_named():
    got = run(client(Server(answer({"runs": {"a": 1}, "id": ""}))).request("GET", "/x"))
    with pytest.raises(UnexpectedAnswer, match="a list of JSON objects was expected at 'runs', not an object"):
        got.objects("runs")
    with pytest.raises(UnexpectedAnswer, match="no 'id'"):
        got.text("id")
    with pytest.raises(UnexpectedAnswer, match="not an object"):
        got.objects()
    assert got.objects("absent") == []
    posted = run(client(Server(answer([]))).request("POST", "/x"))
    with pytest.raises(OutcomeUnknown, match="not a list"):
        posted.object()


# Addresses, credentials, secrets


MANY = {"ids": ",".join(f"a b/{n}" for n in range(100)), "filter": "100% & \u00fc", "none": None}


def test_a_long_query_is_the_address_that_httpx_would_make_of_it():
    found = address("http://remote:8000/pipeline/runs", MANY)
    plain = httpx.URL(str(found))
    assert isinstance(found, LongQuery)
    assert not isinstance(plain, LongQuery)
    assert found == plain
    assert (found.raw_path, found.query, found.path) == (plain.raw_path, plain.query, plain.path)
    assert found.params == plain.params == httpx.QueryParams({k: v for k, v in MANY.items() if v is not None})


def test_a_long_query_arrives_also_the_second_time_and_behind_another_one():
    server = Server(answer({}, 503), answer({}))
    run(client(server).request("GET", "/runs", params=MANY))
    run(client(server).request("GET", "/runs?view=1", params=MANY))
    assert [request.url.params["ids"] for request in server.requests] == [MANY["ids"]] * 3
    assert [request.url.params["filter"] for request in server.requests] == [MANY["filter"]] * 3
    assert server.query()["view"] == "1"


def test_a_long_query_s_secrets_are_not_shown():
    params = {**MANY, "token": "s3cret-0123456789"}
    with pytest.raises(RequestRefused) as raised:
        run(client(Server(answer({}, 400))).request("GET", "/runs", params=params))
    assert "s3cret" not in str(raised.value)
    assert "ids=" in raised.value.url
    assert "s3cret" not in repr(address("http://remote:8000/runs", params))


def test_a_prefix_of_the_base_address_is_kept_and_segments_are_quoted():
    server = Server(answer({}))
    http = client(server, url="http://remote:8000/pipeline/")
    run(http.request("GET", f"/apis/{segment('a b/c?')}", params={"q": "1 +", "none": None, "flag": False}))
    assert server.last.url.raw_path == b"/pipeline/apis/a%20b%2Fc%3F?q=1+%2B&flag=false"


@pytest.mark.parametrize("bad", ["", ".", "..", "a\nb", "\x00"])
def test_a_segment_cannot_change_the_path(bad):
    with pytest.raises(ConfigError):
        segment(bad)


@pytest.mark.parametrize(
    "bad", ["remote:8000", "ftp://remote", "", "http://", "http://u:hunter2@remote", "http://x:port"]
)
def test_a_base_address_that_is_none_is_refused_without_its_password(bad):
    with pytest.raises(ConfigError) as caught:
        HttpClient(bad, system="test")
    assert "hunter2" not in str(caught.value)


def test_credentials_go_to_the_base_address_only():
    server = Server(answer({}))
    http = client(server, credentials=Credentials.token("abcdefgh", scheme="Token"))

    run(http.request("GET", "/x"))
    assert server.last.headers["Authorization"] == "Token abcdefgh"
    run(http.request("GET", "http://remote:8000/y"))
    assert server.last.headers["Authorization"] == "Token abcdefgh"
    for elsewhere in ("http://other:8000/y", "https://remote:8000/y", "http://remote:8001/y"):
        run(http.request("GET", elsewhere))
        assert "Authorization" not in server.last.headers


def test_cookies_of_a_server_are_not_kept():
    server = Server(answer({}, set_cookie="SESSION=abc; Path=/"))

    async def twice() -> None:
        async with client(server) as http:
            await http.request("GET", "/x")
            await http.request("GET", "/x")

    run(twice())
    assert "Cookie" not in server.last.headers


@pytest.mark.parametrize("value", ["tok\nen12345", "token12345 ", "tök12345", "\x00abcdef"])
def test_a_token_that_cannot_be_sent_is_a_clear_error_without_the_token(value):
    with pytest.raises(ConfigError, match="header X") as caught:
        Credentials.header("X", value)
    assert value not in str(caught.value)


SECRET = "s3cr3t-Tok3n"


@pytest.mark.parametrize(
    "failure",
    [
        *BEFORE_SENDING,
        *AFTER_SENDING,
        answer({"message": f"bad token {SECRET}", "echo": {"authorization": f"Bearer {SECRET}"}}, 500),
        answer({"message": f"bad token {SECRET}"}, 400),
        answer({"password": SECRET}, 403),
        page(f"<a href='/x?token={SECRET}'>x</a>"),
        httpx.Response(302, headers={"Location": f"/login?next={SECRET}"}),
        httpx.ConnectError(f"cannot connect with {SECRET}"),
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'"),
        httpx.UnsupportedProtocol(f"no {SECRET}"),
        httpx.ReadError(f"lost {SECRET}"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_error_shows_a_secret(failure, method):
    import traceback

    http = client(Server(failure), credentials=Credentials.token(SECRET))
    with pytest.raises((RemoteError, ConfigError)) as caught:
        run(http.request(method, f"/x?token={SECRET}"))
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(http)
    assert SECRET not in shown
    assert error.__cause__ is None


def test_basic_credentials_hide_password_and_its_encoded_form():
    credentials = Credentials.basic("joe", "hunter22")
    encoded = credentials.headers["Authorization"].split()[1]
    http = client(Server(answer({"message": f"{encoded} hunter22"}, 400)), credentials=credentials)
    with pytest.raises(RequestRefused) as caught:
        run(http.request("GET", "/x"))
    assert caught.value.reason == "*** ***"
    assert "hunter22" not in repr(credentials)
    assert encoded not in repr(credentials)


def test_a_secret_at_the_cut_is_not_shown_by_half():
    body = {"message": "x" * 495 + " " + SECRET}
    http = client(Server(answer(body, 400)), credentials=Credentials.token(SECRET))
    with pytest.raises(RequestRefused) as caught:
        run(http.request("GET", "/x"))
    assert SECRET[:3] not in str(caught.value)


def test_the_log_of_httpx_shows_no_signed_address(caplog):
    with caplog.at_level(logging.INFO, logger="httpx"):
        run(client(Server(answer({}))).request("GET", "/x?X-Amz-Signature=abcdef0123&a=b"))
    assert "abcdef0123" not in caplog.text
    assert "a=b" in caplog.text


def test_errors_travel_between_processes():
    with pytest.raises(NotFound) as caught:
        run(client(Server(answer({"detail": "gone"}, 404))).request("GET", "/x"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.status == 404


def test_an_untrusted_certificate_is_a_matter_of_configuration():
    failure = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
    server = Server(failure)
    with pytest.raises(ConfigError, match="verify_ssl"):
        run(client(server, url="https://remote").request("GET", "/x"))
    assert len(server.requests) == 1


def test_a_missing_tls_file_is_named():
    http = client(Server(answer({})), tls=Tls(ca_file="nowhere/ca.pem"))
    with pytest.raises(ConfigError, match=r"nowhere/ca\.pem"):
        run(http.request("GET", "/x"))


def test_a_client_can_be_closed_and_used_again():
    async def scenario() -> None:
        http = client(Server(answer({})))
        await http.request("GET", "/x")
        await http.aclose()
        await http.aclose()
        await http.request("GET", "/x")
        await http.aclose()

    run(scenario())


# Downloads


def test_a_download_follows_redirects_and_leaves_the_credentials_at_home():
    server = Server(
        httpx.Response(307, headers={"Location": "https://store.example.com/blob?X-Amz-Signature=abc"}),
        httpx.Response(302, headers={"Location": "/other"}),
        httpx.Response(200, content=b"bytes"),
    )
    http = client(server, credentials=Credentials.token("abcdefgh"))

    got = run(http.download("/blob", headers={"X-Extra": "1"}, max_bytes=100))

    assert got.content == b"bytes"
    assert [str(r.url) for r in server.requests] == [
        "http://remote:8000/blob",
        "https://store.example.com/blob?X-Amz-Signature=abc",
        "https://store.example.com/other",
    ]
    assert server.requests[0].headers["Authorization"] == "Bearer abcdefgh"
    assert all("Authorization" not in r.headers and "X-Extra" not in r.headers for r in server.requests[1:])


def test_a_download_stays_without_credentials_even_back_at_home():
    server = Server(httpx.Response(302, headers={"Location": "/again"}), httpx.Response(200, content=b""))
    run(client(server, credentials=Credentials.token("abcdefgh")).download("/blob", max_bytes=1))
    assert "Authorization" not in server.last.headers


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", ""])
def test_a_download_goes_nowhere_strange(target):
    server = Server(httpx.Response(302, headers={"Location": target} if target else {}))
    with pytest.raises(UnexpectedAnswer, match="not followed"):
        run(client(server).download("/blob", max_bytes=100))


def test_a_download_is_not_led_from_https_to_http():
    server = Server(httpx.Response(302, headers={"Location": "http://remote/blob"}))
    with pytest.raises(UnexpectedAnswer, match="not followed"):
        run(client(server, url="https://remote").download("/blob", max_bytes=100))


def test_redirects_in_a_circle_end():
    server = Server(httpx.Response(302, headers={"Location": "/blob"}))
    with pytest.raises(UnexpectedAnswer, match="more than 5 redirects"):
        run(client(server).download("/blob", max_bytes=100))
    assert len(server.requests) == 6
