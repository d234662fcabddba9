"""The one check of a URL, and where it leads."""

import pytest

from otel_budget.net.url import UrlError, place_of, split_url


@pytest.mark.parametrize(
    "url",
    ["", "a", "ftp://a/", "http://", "http:///metrics", "http://a:70000/", "http://[::1/", None, 5],
)
def test_what_is_no_http_url_with_a_host_is_refused(url: object) -> None:
    """And shown as it is."""
    with pytest.raises(UrlError) as refused:
        split_url(url)
    assert refused.value.shown == url
    assert not refused.value.has_user


def test_a_url_with_a_password_is_refused_and_not_shown() -> None:
    """A URL becomes a name in verdicts and logs."""
    with pytest.raises(UrlError) as refused:
        split_url("https://me:secret@a.example:9464/metrics")
    assert refused.value.has_user
    assert "secret" not in str(refused.value)
    assert refused.value.shown == "https://…@a.example"


@pytest.mark.parametrize(
    ("url", "host", "port", "header", "target"),
    [
        ("http://a", "a", 80, "a", "/"),
        ("https://a/x?y=z", "a", 443, "a", "/x?y=z"),
        ("http://a:9464/metrics", "a", 9464, "a:9464", "/metrics"),
        ("http://[::1]:9464/", "::1", 9464, "[::1]:9464", "/"),
        ("http://[fe80::1%eth0]/", "fe80::1%eth0", 80, "[fe80::1]", "/"),
        ("http://bücher.example/ä", "bücher.example", 80, "xn--bcher-kva.example", "/%C3%A4"),
    ],
)
def test_a_url_leads_to_a_place(url: str, host: str, port: int, header: str, target: str) -> None:
    """A zone means something on this machine only, and is in no header."""
    place = place_of(url)
    assert (place.host, place.port, place.host_header, place.target) == (host, port, header, target)
    assert place.is_tls is url.startswith("https:")
