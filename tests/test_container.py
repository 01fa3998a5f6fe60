"""What the image and the compose file name is what the code has: settings, ports, users, paths and commands."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from debt_mgmt.client.channel import DEFAULT_TARGET
from debt_mgmt.server.config import ConfigurationError, Settings, read_settings

PROJECT = Path(__file__).parents[1]
DEPLOY = PROJECT / "deploy"
DOCKERFILE = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROGRAM = SERVICES["debt-mgmt"]
GIVEN = re.compile(r"\$\{(\w+):\?[^}]+\}")
"""A value that whoever starts it must give."""
KEYS = {
    "build", "cap_drop", "command", "configs", "depends_on", "environment", "healthcheck", "image", "init",
    "network_mode", "ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip


def lines(word: str) -> list[str]:
    """What follows an instruction of the Dockerfile, wherever it stands."""
    return [line.split(None, 1)[1].strip() for line in DOCKERFILE.splitlines() if line.startswith(word + " ")]


def variables_of_image() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines("ENV"))))


def settings_of(*environments: dict[str, str]) -> Settings:
    """The settings that the service would read there; raises ConfigurationError for a name that is none."""
    everything = {name: GIVEN.sub("given", value) for one in environments for name, value in one.items()}
    return read_settings(environment={k: v for k, v in everything.items() if k.startswith("DEBT_MGMT_")})


def test_the_image_runs_as_a_user_without_rights_and_writes_to_its_volume_only() -> None:
    (user,) = lines("USER")
    number = user.split(":")[0]
    assert int(number) > 0
    assert f"--uid {number} " in DOCKERFILE
    (volume,) = lines("VOLUME")
    settings = settings_of(variables_of_image())
    for path in (
        settings.database.data_directory,
        settings.server.admin_token_place(settings.database.data_directory),
    ):
        assert path.is_relative_to(volume), path
    assert f"--home-dir {volume} --create-home" in DOCKERFILE


def test_the_image_names_ports_and_commands_that_there_are() -> None:
    settings = settings_of(variables_of_image())
    assert lines("EXPOSE") == [f"{settings.server.address.rpartition(':')[2]} {settings.server.metrics_port}"]
    assert settings.server.host == "127.0.0.1", "nobody is let in before somebody says so"
    (check,) = lines("HEALTHCHECK")
    (module,) = re.findall(r'"-m", "([\w.]+)"', check)
    assert importlib.util.find_spec(module) is not None
    assert DEFAULT_TARGET.endswith(settings.server.address.rpartition(":")[2])
    assert lines("ENTRYPOINT") == ['["debt-mgmt"]']
    assert 'debt-mgmt = "debt_mgmt.server.__main__:launch"' in (PROJECT / "pyproject.toml").read_text()


def test_what_is_copied_into_the_build_is_what_the_wheel_needs() -> None:
    listed = (PROJECT / ".dockerignore").read_text().split()
    kept = {name.removeprefix("!") for name in listed if name.startswith("!")}
    assert listed[0] == "*"
    wheel = re.findall(r'^"([\w/.]+)" = "debt_mgmt/', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    wanted = ["core/debt_mgmt", "server/debt_mgmt", "client/debt_mgmt", "pyproject.toml", "README.md", *wheel]
    missing = [name for name in wanted if not any(name == one or name.startswith(one + "/") for one in kept)]
    assert missing == []


def test_compose_gives_settings_that_the_service_accepts() -> None:
    settings = settings_of(variables_of_image(), PROGRAM["environment"])
    assert settings.server.auth == "tokens"
    database = SERVICES["postgres"]["environment"]
    connection = f"postgresql://{database['POSTGRES_USER']}:given@postgres:5432/{database['POSTGRES_DB']}"
    assert settings.database.connection() == connection
    assert PROGRAM["environment"]["DEBT_MGMT_DB_PASSWORD"] == database["POSTGRES_PASSWORD"]
    inside = {port.split(":")[-1] for port in PROGRAM["ports"]}
    assert {settings.server.address.rpartition(":")[2], str(settings.server.metrics_port)} < inside
    assert PROGRAM["user"] == lines("USER")[0]
    assert PROGRAM["volumes"] == [f"state:{lines('VOLUME')[0]}"]


def test_a_setting_that_there_is_not_would_be_found() -> None:
    with pytest.raises(ConfigurationError, match="DEBT_MGMT_SERVER_PORTAL"):
        settings_of({"DEBT_MGMT_SERVER_PORTAL": "1"})


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_writes_to_its_image_or_is_reached_from_elsewhere(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    secrets = {key: value for key, value in service.get("environment", {}).items() if "PASSWORD" in key}
    assert all(GIVEN.fullmatch(value) for value in secrets.values()), "no secret stands in the file"
    named = [one.split(":")[0] for one in service.get("volumes", [])]
    assert all((DEPLOY / one).exists() if one.startswith(".") else one in COMPOSE["volumes"] for one in named), named
    for one in service.get("configs", []):
        assert yaml.safe_load(COMPOSE["configs"][one["source"]]["content"])["apiVersion"] == 1


def test_prometheus_finds_the_service_and_grafana_finds_both() -> None:
    prometheus = SERVICES["prometheus"]
    file = re.findall(r"--config.file=/etc/prometheus/(\S+)", " ".join(prometheus["command"]))[0]
    read = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
    (target,) = read["scrape_configs"][0]["static_configs"][0]["targets"]
    assert prometheus["network_mode"] == "service:debt-mgmt"
    assert target == f"localhost:{PROGRAM['environment']['DEBT_MGMT_METRICS_PORT']}"
    assert all((DEPLOY / "prometheus" / rules).is_file() for rules in read["rule_files"])
    port = re.findall(r"--web.listen-address=0.0.0.0:(\d+)", " ".join(prometheus["command"]))[0]
    assert f"127.0.0.1:{port}:{port}" in PROGRAM["ports"]
    (source,) = yaml.safe_load(COMPOSE["configs"]["grafana-data"]["content"])["datasources"]
    assert source["url"] == f"http://debt-mgmt:{port}"
    (boards,) = yaml.safe_load(COMPOSE["configs"]["grafana-boards"]["content"])["providers"]
    assert f"./grafana:{boards['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    assert list((DEPLOY / "grafana").glob("*.json"))


def test_prometheus_tells_alertmanager_which_has_its_example() -> None:
    prometheus, alertmanager = SERVICES["prometheus"], SERVICES["alertmanager"]
    read = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (target,) = read["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    words = " ".join(alertmanager["command"])
    port = re.findall(r"--web.listen-address=0.0.0.0:(\d+)", words)[0]
    assert alertmanager["network_mode"] == prometheus["network_mode"]
    assert target == f"localhost:{port}"
    assert f"127.0.0.1:{port}:{port}" in PROGRAM["ports"]
    folder, file = re.findall(r"--config.file=(\S+)/(\S+?)(?: |$)", words)[0]
    assert f"./alertmanager:{folder}:ro" in alertmanager["volumes"]
    assert yaml.safe_load((DEPLOY / "alertmanager" / file).read_text())["route"]["receiver"]
    state = re.findall(r"--storage.path=(\S+)", words)[0]
    assert f"alerts:{state}" in alertmanager["volumes"], "what is silenced outlives a restart"


def test_every_service_is_written_with_keys_that_compose_knows() -> None:
    for name, one in SERVICES.items():
        assert set(one) <= KEYS, name
        assert ("image" in one) and one["image"].rpartition(":")[2] != "latest"
        assert not ("ports" in one and "network_mode" in one), (
            f"{name} has the network of another: its ports stand there"
        )
        assert all(name in SERVICES for name in one.get("depends_on", []))
    assert set(COMPOSE) <= {"name", "services", "configs", "volumes"}
