"""The deployment's files: against schemas, each other, and the program's own loaders."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.prometheus_rules import recorded
from otel_budget import semconv
from otel_budget.config.load import load
from otel_budget.demo import scenario
from tests.support.paths import ROOT
from tests.support.real import require

REPOSITORY = ROOT
DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
BIN = Path(sys.executable).parent
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a program said."""
    return done.stdout + done.stderr


def resources(*folder: str) -> dict[str, dict[str, Any]]:
    """Return what kustomize makes of a folder, by kind and name."""
    where = KUBERNETES.joinpath(*folder)
    kustomize = shutil.which("kustomize")
    command = [kustomize, "build"] if kustomize else [require("kubectl"), "kustomize"]
    done = run(*command, where)
    assert done.returncode == 0, said(done)
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


# --- compose --------------------------------------------------------------------------------------
def test_compose_is_what_the_compose_specification_says() -> None:
    """By its published schema."""
    checked = run(
        BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"
    )
    assert checked.returncode == 0, said(checked)


def test_images_are_pinned_and_ports_are_this_hosts_alone() -> None:
    """Nothing here asks who you are."""
    for name, service in COMPOSE["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+|local", tag), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["healthcheck" if name != "sidecar" else "build"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    text = (DEPLOY / "compose.yaml").read_text()
    assert "PASSWORD" not in text


def test_what_compose_mounts_and_builds_from_is_there() -> None:
    """A missing file would become an empty folder in the container."""
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)
    own = COMPOSE["services"]["sidecar"]["build"]
    assert (DEPLOY / own["context"] / own["dockerfile"]).is_file()
    rules = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["rule_files"]
    assert all((DEPLOY / "prometheus" / rule).is_file() for rule in rules)


def test_grafana_finds_its_data_source_its_dashboards_and_its_alertmanager() -> None:
    """By the paths and the uid that its files name."""
    provisioning = REPOSITORY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (group,) = yaml.safe_load((provisioning / "alerting/rules.yaml").read_text())["groups"]
    used = {query["datasourceUid"] for rule in group["rules"] for query in rule["data"]}
    assert used == {source["uid"], "__expr__"}
    (provider,) = yaml.safe_load((provisioning / "dashboards/otel-budget.yaml").read_text())[
        "providers"
    ]
    mounts = dict(v.split(":")[:2] for v in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["../grafana/dashboards"] == provider["options"]["path"]
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert (REPOSITORY / "grafana" / "dashboards" / Path(home).name).is_file()
    (point,) = yaml.safe_load((provisioning / "alerting/contact-points.yaml").read_text())[
        "contactPoints"
    ]
    assert point["receivers"][0]["settings"]["url"] == "http://alertmanager:9093"
    (policy,) = yaml.safe_load((provisioning / "alerting/policies.yaml").read_text())["policies"]
    assert policy["receiver"] == point["name"]


def test_a_page_of_an_agent_shows_prometheus_nothing_by_a_sidecars_name() -> None:
    """Alerts and dashboards believe these names; what agents and others export stays."""
    files = (DEPLOY / "prometheus" / name for name in ("scrape.yaml", "prometheus.yaml"))
    jobs = [yaml.safe_load(file.read_text())["scrape_configs"][0] for file in files]
    monitor = yaml.safe_load((KUBERNETES / "base" / "podmonitor.yaml").read_text())
    (endpoint,) = (e for e in monitor["spec"]["podMetricsEndpoints"] if e["port"] == "metrics")
    lists = [*(job["metric_relabel_configs"] for job in jobs), endpoint["metricRelabelings"]]
    assert {rule["action"] for rules in lists for rule in rules} == {"drop"}
    (dropped,) = {"|".join(f"(?:{rule['regex']})" for rule in rules) for rules in lists}
    shared = semconv.BUILD_INFO
    agents = {m.name for m in (*semconv.SESSION_METRICS, *semconv.PROCESS_METRICS, shared)}
    sidecars = {m.name for m in semconv.SIDECAR_METRICS if m is not shared}
    assert not [name for name in agents if re.fullmatch(dropped, name)]
    assert not [name for name in sidecars if not re.fullmatch(dropped, name)]
    assert all(re.fullmatch(dropped, f"{name}_bucket") for name in sidecars)
    assert all(re.fullmatch(dropped, name) for name in recorded())
    assert not re.fullmatch(dropped, "vllm:prompt_tokens_total")


# --- the program's own configuration --------------------------------------------------------------
@pytest.mark.parametrize(
    "file",
    [
        "sidecar.yaml",
        "kubernetes/base/sidecar.yaml",
        "kubernetes/overlays/prometheus/sidecar.yaml",
    ],
)
def test_every_sidecar_configuration_is_one_that_it_takes(file: str) -> None:
    """By its own strict loader; and none has authentication yet, so the way in is kept narrow."""
    config = load(DEPLOY / file)
    assert config.storage.path == Path("/var/lib/otel-budget/otel-budget.db")
    assert config.listen.port == 9465
    assert not config.listen.is_loopback


def test_the_demos_ceiling_is_the_one_its_third_run_is_stopped_by() -> None:
    """In compose the sidecar is another process, with a file of its own."""
    ceilings = load(DEPLOY / "sidecar.yaml").resource_limits
    assert ceilings.max_tokens == scenario.CEILING_TOKENS


# --- Prometheus -----------------------------------------------------------------------------------
@pytest.mark.real("promtool")
@pytest.mark.parametrize("file", ["prometheus.yaml", "scrape.yaml"])
def test_prometheus_takes_its_configuration(file: str) -> None:
    """With the rules that it names."""
    done = run(require("promtool"), "check", "config", DEPLOY / "prometheus" / file)
    assert done.returncode == 0, said(done)


# --- Kubernetes -----------------------------------------------------------------------------------
FOLDERS = [("base",), ("overlays", "prometheus"), ("monitoring",)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_knows_every_field(folder: tuple[str, ...], tmp_path: Path) -> None:
    """What kustomize builds, strictly against the schemas of the current version."""
    built = resources(*folder)
    custom = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    known = [one for one in built.values() if one["kind"] not in custom]
    file = tmp_path / "built.yaml"
    file.write_text(yaml.safe_dump_all(known))
    done = run(BIN / "kubernetes-validate", "--strict", file)
    assert done.returncode == 0, said(done)
    assert said(done).count(" passed for ") == len(known)


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return the pod of a deployment."""
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize(
    ("folder", "name"),
    [(("base",), "agents"), (("overlays", "prometheus"), "otel-budget")],
)
def test_containers_may_do_as_little_as_they_need(folder: tuple[str, ...], name: str) -> None:
    """No root, no capabilities, nothing to write to but what is mounted; bounded memory."""
    pod = pod_of(resources(*folder)[f"Deployment/{name}"])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        may = container["securityContext"]
        assert may["readOnlyRootFilesystem"]
        assert not may["allowPrivilegeEscalation"]
        assert may["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["livenessProbe"]


def test_the_sidecar_is_a_native_one_and_everything_it_names_is_there() -> None:
    """Volumes, ports, the configuration under the name that kustomize gave it."""
    built = resources("base")
    pod = pod_of(built["Deployment/agents"])
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in (sidecar, *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    assert f"ConfigMap/{volumes['config']['configMap']['name']}" in built
    assert f"Secret/{volumes['tokens']['secret']['secretName']}" in built
    named = {port["name"] for one in (sidecar, *pod["containers"]) for port in one["ports"]}
    scraped = {e["port"] for e in built["PodMonitor/otel-budget"]["spec"]["podMetricsEndpoints"]}
    assert scraped == named == {"metrics", "otel-budget"}
    labels = built["Deployment/agents"]["spec"]["template"]["metadata"]["labels"]
    wanted = built["PodMonitor/otel-budget"]["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= labels.items()
    assert built["Service/otel-budget"]["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("folder", [("base",), ("overlays", "prometheus")])
def test_what_selects_pods_selects_no_others_program(folder: tuple[str, ...]) -> None:
    """Pods of another application with the same component label are left alone."""
    built = resources(*folder)
    selecting = [
        selector
        for one in built.values()
        for selector in (
            one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
            if one["kind"] in {"Deployment", "Service", "ServiceMonitor"}
            else one["spec"]["podSelector"]["matchLabels"]
            if one["kind"] == "NetworkPolicy"
            else None,
        )
        if selector is not None
    ]
    assert len(selecting) >= 3
    assert all(one["app.kubernetes.io/name"] == "otel-budget" for one in selecting)


def test_the_overlay_has_one_sidecar_and_no_orchestrator() -> None:
    """Its service, its policy and its monitor are about that one."""
    built = resources("overlays", "prometheus")
    assert "Deployment/agents" not in built
    assert "PodMonitor/otel-budget" not in built
    deployment = built["Deployment/otel-budget"]
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    service = built["Service/otel-budget"]
    assert service["spec"]["selector"].items() <= labels.items()
    policy = built["NetworkPolicy/otel-budget"]["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels.items()
    monitor = built["ServiceMonitor/otel-budget"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    config = next(one for name, one in built.items() if name.startswith("ConfigMap/"))
    assert "prometheus:" in config["data"]["sidecar.yaml"]


def test_dashboards_are_shipped_as_they_are_with_the_label_grafana_looks_for() -> None:
    """The same JSON as in grafana/dashboards."""
    built = resources("monitoring")
    files = sorted((REPOSITORY / "grafana" / "dashboards").glob("*.json"))
    for file in files:
        config = built[f"ConfigMap/{file.stem}"]
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["data"] == {file.name: file.read_text()}
    assert len(files) == 5


# --- systemd, YAML, image -------------------------------------------------------------------------
@pytest.mark.real("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    """With a program that is there; of 10, the unit's exposure is below 2."""
    unit = DEPLOY / "systemd" / "otel-budget-sidecar.service"
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/otel-budget/bin/otel-budget", "/bin/true"))
    done = run(require("systemd-analyze"), "verify", copy)
    assert done.returncode == 0, said(done)
    assert said(done) == ""
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", copy)
    assert done.returncode == 0, said(done)


def test_all_yaml_is_written_alike() -> None:
    """What is generated excepted from the length of its lines."""
    rules = {
        "line-length": {"max": 130}, "document-start": "disable", "comments-indentation": "disable",
        "comments": {"min-spaces-from-content": 1}, "braces": {"max-spaces-inside": 1},
        "truthy": {"check-keys": False}, "indentation": {"spaces": 2},
    }  # fmt: skip
    config = yaml.safe_dump({"extends": "default", "rules": rules})
    places = [DEPLOY, REPOSITORY / "grafana" / "provisioning"]
    files = [path for place in places for path in sorted(place.rglob("*.yaml"))]
    written = [path for path in files if not path.read_text().startswith("# Generated")]
    assert len(written) >= 15
    done = run(BIN / "yamllint", "--strict", "-d", config, *written)
    assert done.returncode == 0, said(done)


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody() -> None:
    """Pinned, without root, in exec form, ended by the signal that the sidecar knows."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (REPOSITORY / source).exists(), source
    assert "USER 10001:10001" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert 'ENTRYPOINT ["otel-budget"]' in lines
