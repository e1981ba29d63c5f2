"""The files of deploy/ against the command line, the package and each other. Nothing is built or started."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from seqloom.cli.commands.serve import serve
from seqloom.serving.config import ServerConfig

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they are given, one line each."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in pairs]


def given(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit."""
    actual: dict[str, list[str]] = {}
    for line in (DEPLOY / "seqloom.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            actual.setdefault(name, []).append(value)
    return actual


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def options(command: list[str]) -> set[str]:
    """The options of a `seqloom serve ...`."""
    start = command.index("serve")
    return {word for word in command[start:] if word.startswith("--")}


def test_the_image_installs_what_the_package_offers() -> None:
    (install,) = [line for line in given("RUN") if "'.[" in line]
    extras = set(re.search(r"\.\[(.*)\]", install).group(1).split(","))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= set(project["optional-dependencies"])
    assert {"serve", "postgresql", "redis"} <= extras
    copied = [name for line in given("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    needed = {"pyproject.toml", "src", "deploy/requirements.lock", "requirements-torch.lock"}
    assert needed | {project["readme"], *project["license-files"]} <= set(copied)
    version = re.match(r"python:(\d+)\.(\d+)", given("FROM")[-1])
    assert tuple(map(int, version.groups())) >= (3, 11)
    hashed, torch, own = [line for line in given("RUN") if "pip install" in line]
    assert "--no-deps --require-hashes -r requirements.lock" in hashed
    assert torch.endswith("-r requirements-torch.lock")
    assert "--no-deps" in own


def test_the_image_runs_the_command_as_an_unprivileged_user() -> None:
    (entry,) = given("ENTRYPOINT")
    command = yaml.safe_load(entry)
    known = set(inspect.signature(serve).parameters)
    assert {option.strip("-") for option in options(command)} <= known
    assert command[command.index("--port") + 1] == given("EXPOSE")[0]
    (user,) = given("USER")
    (made,) = [line for line in given("RUN") if "useradd" in line]
    assert f" {user} " in f"{made} "
    for folder in [*given("VOLUME"), given("WORKDIR")[-1]]:
        assert folder in made, f"{folder} would belong to root"
    store = dict(re.findall(r"(\w+)=(\S+)", given("ENV")[-1]))["SEQLOOM_STORE"]
    assert store.startswith(f"sqlite:///{given('VOLUME')[0]}/")
    (health,) = given("HEALTHCHECK")
    assert f":{given('EXPOSE')[0]}/readyz" in health


def test_compose_puts_the_parts_together() -> None:
    services = compose()["services"]
    app = services["app"]
    assert (DEPLOY / app["build"]["context"] / app["build"]["dockerfile"]).exists()
    assert set(app["depends_on"]) <= set(services)
    assert app["ports"] == ["127.0.0.1:8000:8000"]
    entries = {entry for each in services.values() for entry in each["volumes"]}
    folders = {entry.split(":")[0] for entry in entries}
    named = {folder for folder in folders if not folder.startswith(".")}
    assert named == set(compose()["volumes"])
    assert all((DEPLOY / folder).exists() for folder in folders - named - {"../runs"})
    (made,) = [line for line in given("RUN") if "useradd" in line]
    inside = [entry.split(":")[1] for entry in app["volumes"] if not entry.startswith("..")]
    assert all(folder in made for folder in inside)
    assert f"@{'postgres'}/" in app["environment"]["SEQLOOM_STORE"]
    drain = ServerConfig().drain_s
    assert float(app["stop_grace_period"].rstrip("s")) > drain
    redis = services["redis"]["command"]
    assert redis[redis.index("--appendfsync") + 1] == "always"


def test_the_replicas_differ_in_nothing_but_the_door() -> None:
    services = compose()["services"]
    own = {"ports", "profiles"}
    app, app2 = (
        {key: value for key, value in services[name].items() if key not in own}
        for name in ("app", "app2")
    )
    assert app == app2
    text = (DEPLOY / "nginx.conf").read_text()
    servers = re.findall(r"server (\w+):(\d+) ", text)
    assert {name for name, _ in servers} == {"app", "app2"} == set(services["nginx"]["depends_on"])
    assert {port for _, port in servers} == set(given("EXPOSE"))
    (listens,) = re.findall(r"listen (\d+)", text)
    assert services["nginx"]["ports"] == [f"127.0.0.1:{listens}:{listens}"]
    assert services["nginx"]["volumes"] == ["./nginx.conf:/etc/nginx/nginx.conf:ro"]


def test_nginx_knows_the_servers_limits() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    (body,) = re.findall(r"client_max_body_size (\d+)m", text)
    assert int(body) << 20 == ServerConfig().limits.max_body_bytes
    (idle,) = re.findall(r"^ +keepalive_timeout (\d+)s", text, re.MULTILINE)
    limits = ServerConfig().connections
    assert int(idle) < limits.idle_timeout_s
    for name, seconds in [("client_header_timeout", limits.head_timeout_s),
                          ("client_body_timeout", limits.body_timeout_s),
                          ("send_timeout", limits.send_timeout_s)]:  # fmt: skip
        assert re.findall(rf"^ +{name} (\d+)s;", text, re.MULTILINE) == [f"{seconds:g}"]
    ((count, size),) = re.findall(r"large_client_header_buffers (\d+) (\d+)k", text)
    assert int(size) << 10 == limits.max_url_bytes
    assert (int(count) * int(size)) << 10 == limits.max_header_bytes


def test_the_unit_runs_the_command() -> None:
    settings = unit()
    command = shlex.split(settings["ExecStart"][0])
    known = set(inspect.signature(serve).parameters)
    assert {option.strip("-") for option in options(command)} <= known
    assert float(settings["TimeoutStopSec"][0]) > ServerConfig().drain_s
    assert settings["WorkingDirectory"] == [f"/var/lib/{settings['StateDirectory'][0]}"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze on this machine (Debian package systemd)")
    text = (DEPLOY / "seqloom.service").read_text()
    file = tmp_path / "seqloom.service"
    file.write_text(text.replace("/opt/seqloom/bin/seqloom", "/bin/true"))
    actual = subprocess.run([tool, "verify", file], capture_output=True, text=True)
    assert (actual.returncode, actual.stderr) == (0, "")
    file.write_text(file.read_text().replace("Restart=on-failure", "Restart=sometimes"))
    assert subprocess.run([tool, "verify", file], capture_output=True, text=True).stderr
