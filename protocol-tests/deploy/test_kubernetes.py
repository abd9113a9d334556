"""The manifests and the chart: schemas of Kubernetes, Helm itself, and a real server with what they configure."""

import platform
import re
import unittest

import kubernetes_validate
import yaml

from servers import Campanile, get
from tools import CAMPANILE_BIN, DEPLOY, KEY, SECRET, FilesTest, read, read_yaml, replace, run, unpacked

# The oldest version with the hook that sleeps, and the newest of which there are schemas.
VERSIONS = ["1.30.0", kubernetes_validate.latest_version()]
MANIFESTS = ["config", "secret", "deployment", "service", "ingress", "disruptionbudget", "autoscaler", "networkpolicy"]
PLACEHOLDER = "<openssl rand -hex 20>"
REDIS = "rediss://user:password@redis.internal:6379/0"
CHART = DEPLOY / "helm/campanile"
VALUES = {
    "image": {"repository": "registry.example.com/campanile"},
    "secrets": {"CAMPANILE_APPS__0__KEY": KEY, "CAMPANILE_APPS__0__SECRET": SECRET, "CAMPANILE_REDIS__URL": REDIS},
}
EVERYTHING = VALUES | {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls", "annotations": {"a/b": "90"}},
    "networkPolicy": {"from": [{"podSelector": {}}]},
    "env": [{"name": "CAMPANILE_LOG__LEVEL", "value": "warn"}],
    "image": {"repository": "registry.example.com/campanile", "tag": "1", "pullSecrets": [{"name": "registry"}]},
    "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}},
    "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"}, "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "volumes": [{"name": "authority", "configMap": {"name": "authority"}}],
    "volumeMounts": [{"name": "authority", "mountPath": "/etc/ssl/redis"}],
}
needs_x86_64 = unittest.skipUnless(platform.machine() == "x86_64", "the package of Helm is for x86-64")


class ObjectsTest(FilesTest):
    def assert_valid(self, objects):
        for found in objects:
            for version in VERSIONS:
                with self.subTest(kind=found["kind"], version=version):
                    kubernetes_validate.validate(found, version, strict=True)

    def assert_consistent(self, objects):
        """The objects name one another as they are, and the times fit."""
        kinds = {found["kind"]: found for found in objects}
        deployment = kinds["Deployment"]["spec"]
        pod = deployment["template"]
        [container] = pod["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        selector = deployment["selector"]["matchLabels"]
        self.assertLessEqual(selector.items(), pod["metadata"]["labels"].items())
        self.assertEqual(kinds["Service"]["spec"]["selector"], selector)
        self.assertEqual({port["targetPort"] for port in kinds["Service"]["spec"]["ports"]}, {"http"})
        self.assertEqual(kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], selector)
        self.assertEqual(kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"], selector)
        named = [port["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
        self.assertEqual(named, ["http", "metrics"])
        if autoscaler := kinds.get("HorizontalPodAutoscaler"):
            self.assertEqual(autoscaler["spec"]["scaleTargetRef"]["name"], kinds["Deployment"]["metadata"]["name"])
            self.assertNotIn("replicas", deployment)
        if ingress := kinds.get("Ingress"):
            [path] = ingress["spec"]["rules"][0]["http"]["paths"]
            self.assertEqual(path["backend"]["service"], {"name": kinds["Service"]["metadata"]["name"], "port": {"name": "http"}})
        for kind, name in [("ConfigMap", pod["spec"]["volumes"][0]["configMap"]["name"]), ("Secret", container["envFrom"][0]["secretRef"]["name"])]:
            self.assertEqual(kinds[kind]["metadata"]["name"], name)

        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertLess(sleep + int(self.effective(objects, "shutdown_grace_s")), pod["spec"]["terminationGracePeriodSeconds"])
        self.assertEqual(int(self.effective(objects, "port")), ports["http"])
        self.assertEqual(self.effective(objects, "listen"), f'"0.0.0.0:{ports["metrics"]}"')
        # What the level "restricted" of Pod Security demands.
        self.assertEqual(pod["spec"]["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertIs(pod["spec"]["securityContext"]["runAsNonRoot"], True)
        self.assertEqual(container["securityContext"]["capabilities"], {"drop": ["ALL"]})
        self.assertIs(container["securityContext"]["allowPrivilegeEscalation"], False)

    def configuration(self, objects):
        """The file and the environment that the server gets."""
        kinds = {found["kind"]: found for found in objects}
        [container] = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
        self.assertEqual(container["args"], ["start", "--config", "/etc/campanile/config.toml"])
        path = self.write("config.toml", kinds["ConfigMap"]["data"]["config.toml"])
        # Variables of the container override those of the Secret.
        return path, kinds["Secret"]["stringData"] | {entry["name"]: entry["value"] for entry in container.get("env", [])}

    def effective(self, objects, name):
        """The value of a setting of the server, as `campanile check` prints it."""
        path, env = self.configuration(objects)
        printed = self.assert_succeeds(run(CAMPANILE_BIN, "check", "--config", path, env=env))
        return re.search(rf"^{name} = (.*?)  #", printed, re.MULTILINE)[1]

    def assert_serves(self, objects):
        """A server with this configuration answers its probes and serves its metrics."""
        path, env = self.configuration(objects)
        kinds = {found["kind"]: found for found in objects}
        [container] = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
        probes = [container[f"{probe}Probe"]["httpGet"] for probe in ["startup", "liveness", "readiness"]]
        own = {"CAMPANILE_SERVER__PORT", "CAMPANILE_METRICS__LISTEN", "CAMPANILE_REDIS__URL"}
        with Campanile(path, {name: value for name, value in env.items() if name not in own}) as server:
            self.assertEqual([get(server.port, probe["path"])[0] for probe in probes], [200, 200, 200])
            self.assertEqual({probe["port"] for probe in probes}, {"http"})
            self.assertEqual(server.metric("campanile_connections"), 0)
            self.assertEqual(server.stop(), 0)


class Manifests(ObjectsTest):
    def objects(self):
        objects = [found for name in MANIFESTS for found in read_yaml(f"kubernetes/{name}.yaml")]
        [secret] = [found for found in objects if found["kind"] == "Secret"]
        self.assertEqual(secret["stringData"]["CAMPANILE_APPS__0__SECRET"], PLACEHOLDER)
        secret["stringData"]["CAMPANILE_APPS__0__SECRET"] = SECRET
        return objects

    def test_kubernetes_knows_the_manifests(self):
        self.assert_valid(self.objects())

    def test_a_wrong_manifest_is_noticed(self):
        for name, change in [
            ("deployment", ("terminationGracePeriodSeconds", "terminationGraceSeconds")),
            ("deployment", ("sleep: { seconds: 5 }", "sleep: { seconds: soon }")),
            ("autoscaler", ("maxReplicas: 10", "")),
            ("networkpolicy", ("podSelector", "podsSelector")),
        ]:
            for version in VERSIONS:
                with self.subTest(change, version=version), self.assertRaises(kubernetes_validate.ValidationError):
                    wrong = yaml.safe_load(replace(read(f"kubernetes/{name}.yaml"), change))
                    kubernetes_validate.validate(wrong, version, strict=True)
        # The hook is newer than this.
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(read_yaml("kubernetes/deployment.yaml")[0], "1.28.0", strict=True)

    def test_the_manifests_fit_together(self):
        self.assert_consistent(self.objects())

    def test_a_wrong_combination_is_noticed(self):
        for change in [lambda spec: spec["template"]["spec"].update(terminationGracePeriodSeconds=35),
                       lambda spec: spec["template"]["spec"]["containers"][0]["ports"][0].update(containerPort=80),
                       lambda spec: spec["selector"]["matchLabels"].update({"app.kubernetes.io/name": "other"})]:
            objects = self.objects()
            change(objects[MANIFESTS.index("deployment")]["spec"])
            with self.assertRaises(AssertionError):
                self.assert_consistent(objects)

    def test_a_server_runs_with_the_manifests(self):
        self.assert_serves(self.objects())

    def test_the_example_of_a_secret_is_rejected_until_it_is_filled_in(self):
        objects = [found for name in MANIFESTS for found in read_yaml(f"kubernetes/{name}.yaml")]
        path, env = self.configuration(objects)
        self.assert_fails(run(CAMPANILE_BIN, "check", "--config", path, env=env), "published placeholder")

    @needs_x86_64
    def test_kustomize_reads_the_folder(self):
        done = run(unpacked("kubectl"), "kustomize", DEPLOY / "kubernetes")

        kinds = [found["kind"] for found in yaml.safe_load_all(self.assert_succeeds(done))]
        self.assertEqual(len(kinds), len(MANIFESTS) - 2)
        self.assertTrue({"Secret", "Ingress"}.isdisjoint(kinds))
        self.write("kustomization.yaml", "resources: [missing.yaml]\n")
        self.assert_fails(run(unpacked("kubectl"), "kustomize", self.folder), "missing.yaml")


@needs_x86_64
class Chart(ObjectsTest):
    def helm(self, command, values, chart=CHART):
        path = self.write("values.yaml", yaml.safe_dump(values))
        name = ["release"] if command == "template" else ["--strict"]
        return run(unpacked("helm"), command, *name, chart, "--values", path, env={"HOME": str(self.folder)})

    def objects(self, values):
        return [found for found in yaml.safe_load_all(self.assert_succeeds(self.helm("template", values))) if found]

    def test_helm_accepts_the_chart(self):
        for values in [VALUES, EVERYTHING]:
            self.assert_succeeds(self.helm("lint", values))

    def test_kubernetes_knows_what_the_chart_makes(self):
        minimal = VALUES | {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "replicaCount": 1}
        for values, kinds in [(VALUES, 6), (EVERYTHING, 8), (minimal, 4)]:
            objects = self.objects(values)
            self.assertEqual(len(objects), kinds)
            self.assert_valid(objects)

    def test_what_the_chart_makes_fits_together(self):
        for values in [VALUES, EVERYTHING, VALUES | {"shutdownGraceSeconds": 120, "preStopSeconds": 30, "metrics": {"port": 9000}}]:
            self.assert_consistent(self.objects(values))

    def test_a_server_runs_with_the_chart(self):
        self.assert_serves(self.objects(VALUES))

    def test_every_value_has_an_effect(self):
        text = yaml.safe_dump_all(self.objects(EVERYTHING))
        for value in ["CAMPANILE_LOG__LEVEL", "registry.example.com/campanile:1", "imagePullSecrets", "LoadBalancer", "nodeAffinity",
                      "tolerations", "nodeSelector", "/etc/ssl/redis", "averageUtilization", "ingressClassName"]:
            self.assertIn(value, text)

    def test_a_secret_of_the_operator_is_used(self):
        values = {"image": VALUES["image"], "existingSecret": "mine"}
        kinds = {found["kind"]: found for found in self.objects(values)}

        self.assertNotIn("Secret", kinds)
        [container] = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
        self.assertEqual(container["envFrom"], [{"secretRef": {"name": "mine"}}])

    def test_a_change_of_the_configuration_restarts_the_nodes(self):
        def template(values):
            [deployment] = [found for found in self.objects(values) if found["kind"] == "Deployment"]
            return deployment["spec"]["template"]

        before = template(VALUES)
        self.assertEqual(template(VALUES), before)
        self.assertNotEqual(template(VALUES | {"config": "[[apps]]\nid = '2'\n"}), before)
        secrets = VALUES["secrets"] | {"CAMPANILE_APPS__0__KEY": "other"}
        self.assertNotEqual(template(VALUES | {"secrets": secrets}), before)

    def test_values_that_can_not_work_are_rejected(self):
        without_redis = {name: value for name, value in VALUES["secrets"].items() if "REDIS" not in name}
        for change, says in [
            ({"image": {"repository": ""}}, "image.repository is required"),
            ({"secrets": {}}, "secrets or existingSecret is required"),
            ({"existingSecret": "mine"}, "exclude each other"),
            ({"secrets": without_redis}, "several nodes need Redis"),
            ({"replicas": 2}, "replicas"),
            ({"replicaCount": "two"}, "replicaCount"),
            ({"service": {"port": 70000}}, "70000|maximum"),
            ({"autoscaling": {"enabled": True, "connections": 0, "cpu": 0}}, "needs connections or cpu"),
        ]:
            with self.subTest(says):
                self.assert_fails(self.helm("template", VALUES | change), says)
        self.assertEqual(len(self.objects(VALUES | {"secrets": without_redis, "replicaCount": 1})), 6)

    def test_a_wrong_template_is_noticed(self):
        chart = self.folder / "campanile"
        for path in CHART.rglob("*"):
            if path.is_file():
                self.write(f"campanile/{path.relative_to(CHART)}", path.read_text(encoding="utf-8"))
        self.assert_succeeds(self.helm("lint", VALUES, chart))
        service = chart / "templates/service.yaml"
        service.write_text(replace(service.read_text(encoding="utf-8"), ("{{ .Values.service.type }}", "{{ .Values.service.type ")))
        self.assert_fails(self.helm("lint", VALUES, chart), "service.yaml")
