from __future__ import annotations

import base64
import json
from collections.abc import Callable

import httpx
import pytest

from mlfleet.clients.auth import Credentials
from mlfleet.clients.container_registry import (
    DOCKER_MANIFEST,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    ContainerRegistryClient,
    ManifestInfo,
    sha256_digest,
)
from mlfleet.clients.registry_auth import parse_challenge
from mlfleet.errors import AuthError, ConfigError, NotFound, TransientError, UnexpectedAnswer

from .support import Server, Step, Time, answer, client, run

CONFIG = json.dumps({"architecture": "amd64", "config": {"Labels": {"mlfleet.key": "k"}}}).encode()
MANIFEST = json.dumps({"schemaVersion": 2, "config": {"digest": sha256_digest(CONFIG)}}).encode()
DIGEST = sha256_digest(MANIFEST)
UNKNOWN = answer({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "x"}}]}, 404)


def manifest(body: bytes = MANIFEST, kind: str = DOCKER_MANIFEST, digest: str | None = None) -> httpx.Response:
    headers = {"Content-Type": kind, "Docker-Content-Digest": digest or sha256_digest(body)}
    return httpx.Response(200, content=body, headers=headers)


def head(kind: str = DOCKER_MANIFEST, digest: str | None = DIGEST) -> Callable[[httpx.Request], httpx.Response]:
    headers = {"Content-Type": kind, "Content-Length": "504", **({"Docker-Content-Digest": digest} if digest else {})}
    return lambda _: httpx.Response(200, headers=headers)


def registry(*steps: Step, url: str = "http://remote:8000", time: Time | None = None, **options: str):
    server = Server(*steps)
    return ContainerRegistryClient(client(server, time, url=url, system="container_registry"), **options), server


CALLS = {
    "ping": lambda c: c.ping(),
    "head_manifest": lambda c: c.head_manifest("ml/churn", "v1"),
    "get_manifest": lambda c: c.get_manifest("ml/churn", "v1"),
    "put_manifest": lambda c: c.put_manifest("ml/churn", "v1", MANIFEST, DOCKER_MANIFEST),
    "get_blob": lambda c: c.get_blob("ml/churn", DIGEST),
    "put_blob": lambda c: c.put_blob("ml/churn", b"x"),
    "image_config": lambda c: c.image_config("ml/churn", "v1"),
    "labels": lambda c: c.labels("ml/churn", "v1"),
    "tags": lambda c: c.tags("ml/churn"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), httpx.ConnectError("refused"), answer({}, 503)], ids=repr)
def test_every_call_is_repeated_within_its_budget(name, failure):
    registry_client, server = registry(failure)
    with pytest.raises(TransientError):
        run(CALLS[name](registry_client))
    assert len(server.requests) == 5


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"get_blob"}))
def test_every_call_but_a_download_refuses_redirects(name):
    registry_client, server = registry(httpx.Response(302, headers={"Location": "/login"}))
    with pytest.raises(AuthError, match="login page"):
        run(CALLS[name](registry_client))
    assert len(server.requests) == 1


def test_the_accept_list_is_sent_whole():
    registry_client, server = registry(head(), manifest())
    run(registry_client.head_manifest("ml/churn", "v1"))
    run(registry_client.get_manifest("ml/churn", "v1"))
    for request in server.requests:
        assert request.headers["Accept"].split(", ") == list(MANIFEST_TYPES)


def test_head():
    registry_client, server = registry(head(OCI_MANIFEST))
    assert run(registry_client.head_manifest("ml/churn", "v1")) == ManifestInfo(DIGEST, OCI_MANIFEST, 504)
    assert (server.last.method, server.last.url.path) == ("HEAD", "/v2/ml/churn/manifests/v1")


def test_head_of_an_unknown_tag_is_none():
    registry_client, _ = registry(UNKNOWN)
    assert run(registry_client.head_manifest("ml/churn", "v1")) is None


def test_head_without_a_digest_reads_the_bytes():
    registry_client, server = registry(head(digest=None), manifest())
    info = run(registry_client.head_manifest("ml/churn", "v1"))
    assert info == ManifestInfo(DIGEST, DOCKER_MANIFEST, len(MANIFEST))
    assert [r.method for r in server.requests] == ["HEAD", "GET"]


def test_a_page_in_answer_to_the_head_of_an_unknown_tag_is_none_too():
    """A proxy's page has no digest, so the bytes are asked for, and by then the registry itself answers."""
    registry_client, server = registry(httpx.Response(200, html="<html>one moment</html>"), UNKNOWN)
    assert run(registry_client.head_manifest("ml/churn", "v1")) is None
    assert [r.method for r in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("kind", ["text/html", "application/vnd.docker.distribution.manifest.v1+prettyjws", ""])
def test_what_is_no_manifest_is_not_taken_for_one(kind):
    for step, call in ((head(kind), CALLS["head_manifest"]), (manifest(kind=kind), CALLS["get_manifest"])):
        registry_client, _ = registry(step)
        with pytest.raises(UnexpectedAnswer, match="where an image manifest is expected"):
            run(call(registry_client))


def test_the_manifest_s_bytes_are_hashed_here():
    registry_client, _ = registry(manifest())
    body, info = run(registry_client.get_manifest("ml/churn", "v1"))
    assert body == MANIFEST
    assert info.digest == DIGEST
    lying, _ = registry(manifest(digest="sha256:" + "0" * 64))
    with pytest.raises(UnexpectedAnswer, match=f"the bytes have digest {DIGEST}"):
        run(lying.get_manifest("ml/churn", "v1"))


def test_a_manifest_asked_for_by_digest_must_have_it():
    other = "sha256:" + "1" * 64
    for step, call in ((manifest(), "get_manifest"), (head(), "head_manifest")):
        registry_client, _ = registry(step)
        with pytest.raises(UnexpectedAnswer, match=f"gave {DIGEST} for {other}"):
            run(getattr(registry_client, call)("ml/churn", other))


def test_a_missing_manifest_says_so():
    registry_client, _ = registry(UNKNOWN)
    with pytest.raises(NotFound, match="MANIFEST_UNKNOWN: manifest unknown"):
        run(registry_client.get_manifest("ml/churn", "v1"))


@pytest.mark.parametrize("repository", ["Ml/churn", "../x", "a//b", "", "a/", "a:b", "a?b"])
def test_a_repository_name_that_is_none_never_leaves(repository):
    registry_client, server = registry(answer({}))
    with pytest.raises(ConfigError):
        run(registry_client.tags(repository))
    assert server.requests == []


@pytest.mark.parametrize("reference", ["", "-x", "a b", "sha256:123", "x" * 129, "../tags/list"])
def test_a_reference_that_is_none_never_leaves(reference):
    registry_client, server = registry(answer({}))
    with pytest.raises(ConfigError):
        run(registry_client.head_manifest("ml/churn", reference))
    assert server.requests == []


def test_put_sends_the_exact_bytes():
    registry_client, server = registry(httpx.Response(201, headers={"Docker-Content-Digest": DIGEST}))
    assert run(CALLS["put_manifest"](registry_client)) == DIGEST
    assert server.last.content == MANIFEST
    assert server.last.headers["Content-Type"] == DOCKER_MANIFEST
    converted, _ = registry(httpx.Response(201, headers={"Docker-Content-Digest": "sha256:" + "2" * 64}))
    with pytest.raises(UnexpectedAnswer, match="the registry stored"):
        run(CALLS["put_manifest"](converted))


def test_a_full_disk_is_named():
    # What docker-registry 2.8 answers when write(2) fails with ENOSPC.
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Path": "/v2/x", "Err": 28}}
    full = answer({"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": detail}]}, 500)
    for name in ("put_manifest", "put_blob"):
        registry_client, _ = registry(UNKNOWN, full) if name == "put_blob" else registry(full)
        with pytest.raises(TransientError, match="its disk is full"):
            run(CALLS[name](registry_client))


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/ml/churn/blobs/uploads/u1?_state=s", "http://remote:8000/v2/ml/churn/blobs/uploads/u1?_state=s&digest="),
        ("u1", "http://remote:8000/v2/ml/churn/blobs/uploads/u1?digest="),
        ("http://remote:8000/up/u1", "http://remote:8000/up/u1?digest="),
    ],
)
def test_an_upload_goes_where_the_registry_says(location, target):
    begun = httpx.Response(202, headers={"Location": location})
    registry_client, server = registry(UNKNOWN, begun, httpx.Response(201))
    digest = run(registry_client.put_blob("ml/churn", b"layer"))
    assert digest == sha256_digest(b"layer")
    assert str(server.last.url) == target + digest
    assert (server.last.method, server.last.content) == ("PUT", b"layer")


def test_a_blob_that_is_there_is_not_uploaded():
    registry_client, server = registry(httpx.Response(200))
    run(registry_client.put_blob("ml/churn", b"layer"))
    assert [r.method for r in server.requests] == ["HEAD"]


def test_an_upload_to_another_house_goes_without_credentials():
    begun = httpx.Response(202, headers={"Location": "https://elsewhere.example.com/up?x=1"})
    registry_client, server = registry(UNKNOWN, begun, httpx.Response(201), bearer="abcdefgh")
    run(registry_client.put_blob("ml/churn", b"layer"))
    assert ["Authorization" in r.headers for r in server.requests] == [True, True, False]


def test_a_blob_is_hashed_and_fetched_from_elsewhere_without_credentials():
    elsewhere = httpx.Response(307, headers={"Location": "https://store.example.com/b?X-Goog-Signature=abc"})
    registry_client, server = registry(elsewhere, httpx.Response(200, content=CONFIG), bearer="abcdefgh")
    assert run(registry_client.get_blob("ml/churn", sha256_digest(CONFIG))) == CONFIG
    assert ["Authorization" in r.headers for r in server.requests] == [True, False]
    wrong, _ = registry(httpx.Response(200, content=b"something else"))
    with pytest.raises(UnexpectedAnswer, match="asked for was"):
        run(wrong.get_blob("ml/churn", DIGEST))


def test_a_blob_may_need_a_token_too():
    registry_client, server = registry(
        httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"}),
        httpx.Response(200, content=CONFIG),
        login="joe",
        password="hunter22",
    )
    assert run(registry_client.get_blob("ml/churn", sha256_digest(CONFIG))) == CONFIG
    assert server.last.headers["Authorization"].startswith("Basic ")


def test_labels_of_an_image():
    registry_client, _ = registry(manifest(), httpx.Response(200, content=CONFIG))
    assert run(registry_client.labels("ml/churn", "v1")) == {"mlfleet.key": "k"}
    bare = json.dumps({"config": {"Labels": None}}).encode()
    body = json.dumps({"config": {"digest": sha256_digest(bare)}}).encode()
    unlabelled, _ = registry(manifest(body), httpx.Response(200, content=bare))
    assert run(unlabelled.labels("ml/churn", "v1")) == {}


def index(*entries: dict[str, object]) -> bytes:
    return json.dumps({"manifests": list(entries)}).encode()


def test_of_an_index_the_image_for_this_platform_is_read():
    other = {"digest": "sha256:" + "3" * 64, "platform": {"os": "linux", "architecture": "arm64"}}
    ours = {"digest": DIGEST, "platform": {"os": "linux", "architecture": "amd64"}}
    registry_client, server = registry(
        manifest(index(other, ours), OCI_INDEX), manifest(), httpx.Response(200, content=CONFIG)
    )
    assert run(registry_client.image_config("ml/churn", "v1"))["architecture"] == "amd64"
    assert server.requests[1].url.path.endswith(DIGEST)
    for body in (index(other, other), index()):
        registry_client, _ = registry(manifest(body, OCI_INDEX))
        with pytest.raises(UnexpectedAnswer, match="no image for linux/amd64"):
            run(registry_client.image_config("ml/churn", "v1"))
    single, _ = registry(
        manifest(index({"digest": DIGEST}), OCI_INDEX), manifest(), httpx.Response(200, content=CONFIG)
    )
    assert run(single.image_config("ml/churn", "v1"))["architecture"] == "amd64"


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no json"])
def test_a_manifest_that_is_no_image_is_named(body):
    registry_client, _ = registry(manifest(body))
    with pytest.raises(UnexpectedAnswer, match="ml/churn:v1 is not an image"):
        run(registry_client.image_config("ml/churn", "v1"))


def test_tags_are_paged():
    registry_client, server = registry(
        answer({"tags": ["a", "b"]}, link='</v2/ml/churn/tags/list?last=b&n=2>; rel="next"'),
        answer({"tags": ["b", "c"]}, link='<http://inside:5000/v2/ml/churn/tags/list?last=c&n=2>; rel="next"'),
        answer({"tags": None}),
    )
    assert run(registry_client.tags("ml/churn")) == ["a", "b", "c"]
    assert [str(r.url) for r in server.requests[1:]] == [
        "http://remote:8000/v2/ml/churn/tags/list?last=b&n=2",
        "http://remote:8000/v2/ml/churn/tags/list?last=c&n=2",
    ]


def test_tags_of_nothing_and_a_list_that_points_to_itself():
    unknown = answer({"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known to registry"}]}, 404)
    assert run(registry(unknown)[0].tags("ml/churn")) == []
    circle = answer({"tags": ["a"]}, link='</v2/ml/churn/tags/list?n=1000>; rel="next"')
    registry_client, server = registry(circle)
    assert run(registry_client.tags("ml/churn")) == ["a"]
    assert len(server.requests) == 1


# Credentials

BEARER = 'Bearer realm="https://auth.example.com/token",service="reg.example.com",scope="repository:ml/churn:pull"'


def challenge(header: str) -> httpx.Response:
    return httpx.Response(
        401, json={"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
        headers={"WWW-Authenticate": header},
    )  # fmt: skip


def test_challenges():
    found = parse_challenge(BEARER)
    assert found is not None
    assert (found.scheme, found.parameters["scope"]) == ("bearer", "repository:ml/churn:pull")
    both = parse_challenge('Basic realm="x", Bearer realm="https://a/t",service=s')
    assert both is not None
    assert (both.scheme, both.parameters) == ("bearer", {"realm": "https://a/t", "service": "s"})
    for header in ("", "Negotiate", "Digest realm=x"):
        assert parse_challenge(header) is None


def test_basic_is_offered_when_asked_for_and_then_kept():
    registry_client, server = registry(challenge('Basic realm="x"'), head(), login="joe", password="hunter22")
    run(registry_client.head_manifest("ml/churn", "v1"))
    run(registry_client.head_manifest("ml/churn", "v1"))
    expected = "Basic " + base64.b64encode(b"joe:hunter22").decode()
    assert [r.headers.get("Authorization") for r in server.requests] == [None, expected, expected]


def test_a_wrong_password_is_offered_once():
    registry_client, server = registry(challenge('Basic realm="x"'), login="joe", password="hunter22")
    with pytest.raises(AuthError, match="UNAUTHORIZED") as caught:
        run(registry_client.tags("ml/churn"))
    assert len(server.requests) == 2
    with pytest.raises(AuthError):
        run(registry_client.tags("ml/churn"))
    assert len(server.requests) == 3
    assert "hunter22" not in str(caught.value) + repr(registry_client) + repr(registry_client._auth)


def test_without_a_login_basic_is_an_error():
    registry_client, server = registry(challenge('Basic realm="x"'))
    with pytest.raises(AuthError):
        run(registry_client.ping())
    assert len(server.requests) == 1


def test_a_token_is_fetched_used_kept_and_renewed():
    time = Time()
    registry_client, server = registry(
        challenge(BEARER),
        answer({"access_token": "tok-abcdefgh1", "expires_in": 300}),
        head(),
        head(),
        challenge(BEARER),
        answer({"token": "tok-abcdefgh2"}),
        head(),
        url="https://reg.example.com",
        time=time,
        login="joe",
        password="hunter22",
    )

    run(registry_client.head_manifest("ml/churn", "v1"))
    asked = server.requests[1]
    assert str(asked.url).startswith("https://auth.example.com/token?")
    assert server.query(1) == {"service": "reg.example.com", "scope": "repository:ml/churn:pull"}
    assert asked.headers["Authorization"].startswith("Basic ")
    assert server.last.headers["Authorization"] == "Bearer tok-abcdefgh1"

    run(registry_client.head_manifest("ml/churn", "v1"))
    assert len(server.requests) == 4
    assert server.last.headers["Authorization"] == "Bearer tok-abcdefgh1"

    time.at += 295  # shortly before its end the token is not used any more
    run(registry_client.head_manifest("ml/churn", "v1"))
    assert "Authorization" not in server.requests[4].headers
    assert server.last.headers["Authorization"] == "Bearer tok-abcdefgh2"


def test_anonymous_tokens_are_fetched_without_credentials():
    registry_client, server = registry(challenge(BEARER), answer({"token": "tok-abcdefgh"}), head())
    run(registry_client.head_manifest("ml/churn", "v1"))
    assert "Authorization" not in server.requests[1].headers


def test_what_a_token_service_may_not_do():
    refused, _ = registry(challenge(BEARER), answer({"details": "incorrect username or password"}, 401))
    with pytest.raises(AuthError, match="incorrect username"):
        run(refused.ping())
    empty, _ = registry(challenge(BEARER), answer({}))
    with pytest.raises(UnexpectedAnswer, match="gave no token"):
        run(empty.ping())
    odd, server = registry(challenge('Bearer realm="file:///etc/passwd"'))
    with pytest.raises(AuthError):
        run(odd.ping())
    assert len(server.requests) == 1
    plain, server = registry(
        challenge('Bearer realm="http://auth.example.com/t"'), url="https://reg", login="joe", password="hunter22"
    )
    with pytest.raises(AuthError, match="unencrypted"):
        run(plain.ping())
    assert len(server.requests) == 1


def test_a_ready_token_is_sent_at_once_and_not_traded():
    registry_client, server = registry(challenge(BEARER), bearer="ya29.abcdefgh")
    with pytest.raises(AuthError):
        run(registry_client.ping())
    assert [r.headers["Authorization"] for r in server.requests] == ["Bearer ya29.abcdefgh"]


def test_a_fetched_token_is_hidden_too():
    registry_client, _ = registry(
        challenge(BEARER), answer({"token": "qwertyuiop"}), answer({"message": "no qwertyuiop"}, 403)
    )
    with pytest.raises(AuthError) as caught:
        run(registry_client.ping())
    assert "qwertyuiop" not in str(caught.value) + repr(vars(caught.value))


def test_403_is_not_argued_with():
    registry_client, server = registry(answer({"errors": [{"code": "DENIED", "message": "no"}]}, 403), login="joe")
    with pytest.raises(AuthError, match="DENIED"):
        run(registry_client.ping())
    assert len(server.requests) == 1


def test_credentials_belong_to_the_registry_client():
    http = client(Server(answer({})), credentials=Credentials.token("abcdefgh"))
    with pytest.raises(ConfigError):
        ContainerRegistryClient(http)
