"""Store URLs: what is read, and that no part of a secret is repeated anywhere."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from seqloom.core.errors import ConfigError, SeqloomError
from seqloom.serving.naming import name_runs
from seqloom.serving.starting import read_settings
from seqloom.serving.store import open_store
from seqloom.serving.store.url import parse_store_url
from support.servers import free_port

SECRET = "Hunter2Hunter2"
HALF = "Hunter2"


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("sqlite:///s.db", "sqlite", "s.db"),
        ("sqlite:////var/lib/a b@c.db", "sqlite", "/var/lib/a b@c.db"),
        ("postgresql://u:p@db.example:5432/shop", "postgresql", "db.example:5432/shop"),
        ("postgres://u:p%40%2Fx@[::1]:5432/shop?sslmode=require", "postgresql", "[::1]:5432/shop"),
        ("postgresql://a:1,b:2/shop?target_session_attrs=any", "postgresql", "a:1,b:2/shop"),
        ("postgresql://%2Fvar%2Frun/shop", "postgresql", "/var/run/shop"),
        ("postgresql:///shop?host=/var/run/postgresql&user=me", "postgresql", "local/shop"),
        ("redis://h:6379/3", "redis", "h:6379/3"),
        ("rediss://:p=+&w@h", "redis", "h"),
    ],
)
def test_what_is_read_and_shown(url: str, kind: str, shown: str) -> None:
    parsed = parse_store_url(url)
    assert (parsed.kind, parsed.shown, parsed.url) == (kind, shown, url)


MALFORMED = [
    f"sl:{SECRET}@db/x",
    f"{SECRET}://db/x",
    f"mysql://u:{SECRET}@h/x",
    f"sqlite://u:{SECRET}@h",
    f"redis://:{HALF}/{HALF}@h:6379/0",
    f"redis://:{HALF}?{HALF}@h:6379/0",
    f"redis://:{HALF}#{HALF}@h:6379/0",
    f"redis://:{HALF}@{HALF}@h:6379/0",
    f"redis://:{SECRET}@h:6379/name",
    f"redis://:{SECRET}@h:port/0",
    f"redis://u:6379/{SECRET}@h",
    f"redis://{HALF}[{HALF}@h/0",
    f"redis://:{HALF} {HALF}@h/0",
    f"redis://:{HALF}\\{HALF}@h/0",
    f"postgresql://u:{SECRET}%zz@h/x",
    f"postgresql://u:{SECRET}%00@h/x",
    f"postgresql://u:{SECRET}@h:port/x",
    f"postgresql://u:{HALF}/{HALF}@h/x",
    f"postgresql://h/x?password={HALF}@{HALF}",
    f"postgresql://u:{SECRET}@h/x\n",
    f"postgresql://u:ü{SECRET}@h/x",
    f"host=h password={SECRET}",
]


@pytest.mark.parametrize("url", [*MALFORMED, "file.db", "sqlite://", "sqlite:///", ""])
def test_a_url_of_uncertain_parts_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_store(url)
    message = "".join(traceback.format_exception(error.value))
    assert HALF not in message.split("open_store(url)")[-1]
    assert "store" in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@127.0.0.1:{}/x",
        "postgresql://127.0.0.1:{1}/x?user=u&password={0}",
        "postgresql://127.0.0.1:{1}/x?{0}",
        "postgresql://127.0.0.1:{1}/x?sslmode=verify-full&sslpassword={0}",
        "redis://:{}@127.0.0.1:{}/0",
        "redis://{}@127.0.0.1:{}/0",
        "redis://127.0.0.1:{1}/0?password={0}",
        "redis://127.0.0.1:{1}/0?socket_timeout={0}",
        "redis://127.0.0.1:{1}/0?{0}=1",
    ],
)
def test_no_server_is_reported_without_the_secret(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    url = url.format(SECRET, free_port())
    with pytest.raises(SeqloomError) as error:
        open_store(url)
    message = "".join(traceback.format_exception(error.value)) + repr(error.value)
    message += caplog.text + "".join(capfd.readouterr())
    assert HALF not in message
    assert SECRET not in repr(parse_store_url(url))
    assert "127.0.0.1" in str(error.value)


def test_the_settings_hide_the_url_and_a_bad_one_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    url = f"redis://:{SECRET}@h/0"
    assert SECRET not in repr(read_settings(None, [], {"store": url}))
    assert read_settings(None, [f"store={url}"], {}).store == url
    assert read_settings(None, [f"store= {url}: 'x "], {}).store == f"{url}: 'x"
    attempts: list[tuple[str, list[str]]] = [
        ("", [f"redis://:{HALF}={HALF}@h/0"]),
        ("", [url]),
        (f"store: [{url}]", []),
        (f"store: {{url: '{url}'}}", []),
        (f"store: {HALF}: {HALF}@h", []),
        (f"store: '{url}\nport: [", []),
    ]
    for text, overrides in attempts:
        file.write_text(text)
        with pytest.raises(ConfigError) as error:
            read_settings(file, overrides, {})
        assert HALF not in "".join(traceback.format_exception(error.value)), text
    with pytest.raises(ConfigError) as error:
        name_runs([url])
    assert HALF not in str(error.value)


def test_a_server_that_cannot_start_does_not_repeat_it(tmp_path: Path) -> None:
    url = f"redis://:{HALF}/{HALF}@h:6379/0"
    command = [sys.executable, "-m", "seqloom", "serve", str(tmp_path), "--port", "0"]
    done = subprocess.run([*command, "--store", url], capture_output=True, text=True)
    assert done.returncode != 0
    assert HALF not in done.stdout + done.stderr
    assert "the store's URL (redis) cannot be read" in " ".join(done.stderr.split())
