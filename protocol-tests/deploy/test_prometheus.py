"""Scrapes, alerts and the dashboard: promtool reads them, and a real Prometheus works with them and a real server."""

import json
import re
import signal
import urllib.parse

import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from servers import Campanile, Listener, Process, free_port, get, publish, wait_until
from tools import DEPLOY, REPOSITORY, SECRET, FilesTest, documented_metrics, metrics_in, read, replace, run

ALERTS = "prometheus/alerts.yaml"
VARIABLES = {"$__rate_interval": "5m", "$job": "campanile", "$instance": ".*"}


def alerts():
    [group] = yaml.safe_load(read(ALERTS))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def dashboard():
    return json.loads(read("grafana/campanile.json"))


def queries(board):
    """All queries of the dashboard, with values for its variables."""
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    annotations = [annotation["expr"] for annotation in board["annotations"]["list"]]
    return [filled(text) for text in targets + annotations]


def filled(text):
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def lost(written, read_back, path=""):
    """Fields that are not as they were after they were read and written again."""
    if isinstance(written, dict) and isinstance(read_back, dict):
        return [field for key, value in written.items() for field in lost(value, read_back.get(key), f"{path}/{key}")]
    if isinstance(written, list) and isinstance(read_back, list) and len(written) == len(read_back):
        pairs = enumerate(zip(written, read_back))
        return [field for at, (before, after) in pairs for field in lost(before, after, f"{path}/{at}")]
    return [] if written == read_back else [path]


class PromtoolTest(FilesTest):
    def check_queries(self, texts):
        rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(texts)]
        path = self.write("queries.yaml", yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
        return run("promtool", "check", "rules", path)

    def assert_metrics_exist(self, texts):
        known = documented_metrics() | {"up"}
        unknown = {name for text in texts for name in metrics_in(text)} - known
        self.assertEqual(unknown, set(), "these metrics do not exist")


class Alerts(PromtoolTest):
    def test_promtool_accepts_the_alerts(self):
        done = run("promtool", "check", "rules", "--lint-fatal", DEPLOY / ALERTS)

        self.assertIn(f"{len(alerts())} rules found", self.assert_succeeds(done))
        self.assert_metrics_exist(alerts().values())

    def test_the_alerts_fire_when_they_should(self):
        self.assert_succeeds(run("promtool", "test", "rules", DEPLOY / "prometheus/alerts_test.yaml"))

    def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(self):
        cases = [case for test in yaml.safe_load(read("prometheus/alerts_test.yaml"))["tests"] for case in test["alert_rule_test"]]

        for fires in [True, False]:
            self.assertEqual({case["alertname"] for case in cases if bool(case.get("exp_alerts")) == fires}, set(alerts()))

    def test_a_wrong_alert_is_noticed(self):
        self.write("alerts_test.yaml", read("prometheus/alerts_test.yaml"))
        for change, says in [
            (("[5m]", "[5 minutes]"), "could not parse expression"),
            (("        labels: { severity: critical }", "        label: { severity: critical }"), "label"),
            (("$labels.instance", "$label.instance"), "undefined variable"),
        ]:
            with self.subTest(change):
                path = self.write("alerts.yaml", replace(read(ALERTS), change))
                self.assert_fails(run("promtool", "check", "rules", path), says)
        for rule in alerts():
            expression = rf"(- alert: {rule}\n +expr: )(?:>-\n(?: {{10}}.*\n)+|.*\n)"
            for wrong in ["vector(1) > 0\n", "vector(1) < 0\n"]:
                with self.subTest(rule, wrong=wrong):
                    self.write("alerts.yaml", re.sub(expression, rf"\g<1>{wrong}", read(ALERTS)))
                    self.assert_fails(run("promtool", "test", "rules", self.folder / "alerts_test.yaml"), f"alertname: {rule}")

    def test_an_unknown_metric_is_noticed(self):
        with self.assertRaisesRegex(AssertionError, "campanile_connexions"):
            self.assert_metrics_exist(["sum(rate(campanile_connexions[5m]))"])

    def test_the_document_has_the_same_alerts(self):
        text = (REPOSITORY / "docs/metrics.md").read_text(encoding="utf-8")
        section = text.partition("\n## Alerts\n")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(Campanile\w+)` \| .*? \| `([^`]*)`.*\|$", section, re.MULTILINE))

        self.assertEqual(rows, alerts())


class Scrapes(PromtoolTest):
    def test_promtool_accepts_the_scrapes(self):
        self.assert_succeeds(run("promtool", "check", "config", DEPLOY / "prometheus/scrape.yaml"))
        # The commented alternative.
        text = re.sub(r"(?m)^  # (?=[- ] )", "  ", read("prometheus/scrape.yaml").partition("  # Or ")[2].partition("\n")[2])
        token = self.write("token", "token")
        path = self.write("prometheus.yml", "scrape_configs:\n" + replace(text, ("/etc/prometheus/campanile-token", token)))
        self.assertIn("credentials_file", path.read_text(encoding="utf-8"))
        self.assert_succeeds(run("promtool", "check", "config", path))

    def test_a_wrong_scrape_is_noticed(self):
        path = self.write("prometheus.yml", replace(read("prometheus/scrape.yaml"), ("static_configs", "static_config")))
        self.assert_fails(run("promtool", "check", "config", path), "static_config")

    def test_the_metric_of_the_autoscaler_is_a_query(self):
        [rule] = yaml.safe_load(read("kubernetes/prometheus-adapter.yaml"))["rules"]["custom"]
        query = replace(rule["metricsQuery"], ("<<.GroupBy>>", "pod"), ("<<.LabelMatchers>>", 'namespace="default",pod=~"a|b"'))
        self.assert_succeeds(self.check_queries([query, rule["seriesQuery"]]))
        self.assert_metrics_exist([query, rule["seriesQuery"]])
        autoscaler = yaml.safe_load(read("kubernetes/autoscaler.yaml"))["spec"]["metrics"]
        self.assertEqual([metric["pods"]["metric"]["name"] for metric in autoscaler if metric["type"] == "Pods"], [rule["name"]["as"]])


class Grafana(PromtoolTest):
    @classmethod
    def setUpClass(cls):
        # With the types of panels and queries.
        plugins.register_default_plugins()

    def check(self, board):
        """Faults of a dashboard that keep Grafana from showing it as it is meant."""
        read_back = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
        faults = [f"Grafana's library does not know {field}" for field in lost(board, read_back)]
        ids = [panel["id"] for panel in board["panels"]]
        faults += [f"two panels have the id {number}" for number in set(ids) if 1 < ids.count(number)]
        taken = {}
        for panel in board["panels"]:
            at = panel["gridPos"]
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                if cell in taken or 24 <= cell[0]:
                    faults.append(f"{panel['title']} has no place of its own")
                    break
                taken[cell] = panel["title"]
            if panel["type"] != "row" and not (panel.get("targets") and panel["title"] and panel["fieldConfig"]["defaults"]["unit"]):
                faults.append(f"{panel['title']} lacks a title, a unit or a query")
        return faults

    def test_the_dashboard_is_whole(self):
        self.assertEqual(self.check(dashboard()), [])

    def test_its_queries_are_valid_and_name_existing_metrics(self):
        texts = queries(dashboard())
        self.assertLess(40, len(texts))
        self.assert_succeeds(self.check_queries(texts))
        self.assert_metrics_exist(texts)
        for variable in dashboard()["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            self.assertIn(label, ["job", "instance"])
            self.assert_metrics_exist([metric])
        unknown = set(re.findall(r"\$\w+", read("grafana/campanile.json"))) - set(VARIABLES)
        self.assertEqual(unknown, set())

    def test_it_shows_what_the_document_recommends(self):
        shown = {name for text in queries(dashboard()) for name in metrics_in(text)}
        alerted = {name for text in alerts().values() for name in metrics_in(text)}

        self.assertEqual(alerted - shown, set())

    def test_a_wrong_dashboard_is_noticed(self):
        for change, says in [
            (('"gridPos"', '"gridPosition"', 1), None),
            (('"legendFormat"', '"legend"', 1), "does not know .*/legend"),
            (('"id": 3,', '"id": 2,', 1), "the id 2"),
            (('"x": 4,', '"x": 3,', 1), "no place of its own"),
            (('"unit": "short"', '"unit": ""', 1), "lacks"),
        ]:
            with self.subTest(change):
                wrong = json.loads(read("grafana/campanile.json").replace(*change))
                self.assertNotEqual(wrong, dashboard())
                if says is None:
                    self.assertRaises(KeyError, self.check, wrong)
                else:
                    self.assertRegex("\n".join(self.check(wrong)), says)
        self.assert_fails(self.check_queries(["sum(rate(campanile_connections[5m])"]), "could not parse expression")


class Prometheus(PromtoolTest):
    """A real Prometheus with the files, and a real server."""

    def setUp(self):
        super().setUp()
        config = replace(read("config.toml"), ('"<openssl rand -hex 20>"', f'"{SECRET}"'))
        self.server = self.enterContext(Campanile(self.write("config.toml", config)))
        [scrape] = yaml.safe_load(replace(read("prometheus/scrape.yaml"), ("127.0.0.1:9601", f"127.0.0.1:{self.server.metrics_port}")))["scrape_configs"]
        [pods] = yaml.safe_load(read("prometheus/scrape-kubernetes.yaml"))["scrape_configs"]
        # Prometheus of Debian can't ask Kubernetes. These targets have the labels that it would find there.
        self.assertEqual(pods.pop("kubernetes_sd_configs"), [{"role": "pod"}])
        pods["static_configs"] = [self.pod(port, name, phase) for port, name, phase in
                                  [("metrics", "campanile", "Running"), ("http", "campanile", "Running"),
                                   ("metrics", "other", "Running"), ("metrics", "campanile", "Succeeded")]]
        self.write("prometheus.yml", yaml.safe_dump({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
            "rule_files": [str(DEPLOY / ALERTS)],
            "scrape_configs": [scrape, pods | {"job_name": "pods"}],
        }))
        self.port = free_port()
        self.enterContext(Process(
            "prometheus", f"--config.file={self.folder / 'prometheus.yml'}", f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", ready=lambda: get(self.port, "/-/ready")[0] == 200))
        for job in ["campanile", "pods"]:
            wait_until(lambda: self.query(f'up{{job="{job}"}} == 1'), "the target is up")

    def pod(self, port, name, phase):
        labels = {"pod_label_app_kubernetes_io_name": name, "pod_container_port_name": port, "pod_phase": phase,
                  "namespace": "production", "pod_name": f"{name}-1"}
        address = self.server.metrics_port if port == "metrics" else self.server.port
        return {"targets": [f"127.0.0.1:{address}"],
                "labels": {f"__meta_kubernetes_{label}": value for label, value in labels.items()}}

    def api(self, path, **parameters):
        status, body = get(self.port, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        self.assertEqual(status, 200, body)
        return json.loads(body)["data"]

    def query(self, text):
        return self.api("query", query=text)["result"]

    def test_it_scrapes_the_server_and_the_pods(self):
        for name in metrics_in(self.server.metrics) - {"campanile_delivery_latency_seconds", "up"}:
            if f"\n{name}{{" in self.server.metrics or f"\n{name} " in self.server.metrics:
                self.assertTrue(self.query(f'{name}{{job="campanile"}}'), name)
        targets = self.api("targets")
        [kept] = [target["labels"] for target in targets["activeTargets"] if target["labels"]["job"] == "pods"]
        self.assertEqual((kept["namespace"], kept["pod"]), ("production", "campanile-1"))
        self.assertEqual(kept["instance"], f"127.0.0.1:{self.server.metrics_port}")
        self.assertEqual(len(targets["droppedTargets"]), 3)
        [rule] = yaml.safe_load(read("kubernetes/prometheus-adapter.yaml"))["rules"]["custom"]
        query = replace(rule["metricsQuery"], ("<<.GroupBy>>", "pod"), ("<<.LabelMatchers>>", 'namespace="production"'))
        wait_until(lambda: [found["metric"] for found in self.query(query)] == [{"pod": "campanile-1"}], query)

    def test_it_answers_the_queries_of_the_dashboard(self):
        url = f"http://127.0.0.1:{self.server.port}"
        with Listener(url) as listener:
            for number in range(3):
                self.assert_succeeds(publish(url, f"event-{number}"))
                listener.receives(f"event-{number}")
                # A counter without a series has no rate with the first one.
                wait_until(lambda: self.query(f'sum(campanile_publishes_total{{job="campanile"}}) == {number + 1}'), "the publish")
            shown = [text.replace("[5m]", "[1m]") for text in queries(dashboard())]
            wait_until(lambda: self.query("rate(campanile_publishes_total[1m]) > 0"), "the publishes")
            empty = [text for text in shown if not self.query(text)]
        # Without Redis, webhooks, TLS, clients that return, errors and restarts.
        expected = re.compile("broker|webhook|certificate|sessions_total|gaps|duplicates|dropped|ended|rejected|changes")
        self.assertEqual([text for text in empty if not expected.search(text)], [])
        self.assertLess(20, len(shown) - len(empty))

    def test_it_has_an_alert_when_the_server_has_gone(self):
        def rules():
            [group] = self.api("rules")["groups"]
            return {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}

        wait_until(lambda: all(health == "ok" for health, _ in rules().values()), "all rules evaluated")
        self.assertEqual(set(rules()), set(alerts()))
        self.assertEqual({state for _, state in rules().values()}, {"inactive"})

        self.server.stop(signal.SIGTERM)

        # It fires after a minute.
        wait_until(lambda: rules()["CampanileDown"][1] == "pending", "a pending alert")
