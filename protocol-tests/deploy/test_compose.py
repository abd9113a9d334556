"""The Compose file: Docker Compose reads it, and its Redis, both of its nodes and its nginx run as ordinary processes."""

import functools
import re
import signal

import yaml

from servers import Campanile, Listener, Process, free_port, get, publish, wait_until
from tools import CAMPANILE_BIN, DEPLOY, KEY, PROGRAMS, REPOSITORY, SECRET, FilesTest, read, replace, run

PASSWORD = "5c1f7e2a"
ENVIRONMENT = f"CAMPANILE_KEY={KEY}\nCAMPANILE_SECRET={SECRET}\nREDIS_PASSWORD={PASSWORD}\n"
NODES = ["campanile-1", "campanile-2"]


class ComposeTest(FilesTest):
    def compose(self, text, environment=ENVIRONMENT):
        """What Docker Compose makes of a file."""
        path = self.write("compose.yaml", text)
        names = self.write(".env", environment)
        return run(PROGRAMS / "docker-compose", "--file", path, "--env-file", names, "config", cwd=self.folder)

    def project(self):
        return yaml.safe_load(self.assert_succeeds(self.compose(read("compose/compose.yaml"))))


class File(ComposeTest):
    def test_docker_compose_accepts_the_file(self):
        project = self.project()

        self.assertEqual(set(project["services"]), {*NODES, "redis", "nginx"})
        for service in project["services"].values():
            # Each file that is mounted is one of the folder.
            sources = [volume["source"] for volume in service.get("volumes", []) if volume["type"] == "bind"]
            for source in sources:
                self.assertTrue((DEPLOY / "compose" / source.removeprefix(f"{self.folder}/")).exists(), source)

    def test_a_wrong_file_is_noticed(self):
        text = read("compose/compose.yaml")
        for change, says in [
            (("stop_grace_period: 30s", "stop_grace_time: 30s"), "stop_grace_time"),
            (("stop_grace_period: 30s", "stop_grace_period: soon"), "soon"),
            (("condition: service_healthy", "condition: service_good"), "condition"),
            (("networks: [inside]", "networks: [outside]"), "outside"),
        ]:
            with self.subTest(change):
                self.assert_fails(self.compose(replace(text, change)), says)

    def test_what_is_missing_in_the_environment_is_noticed(self):
        # The example has empty values: each has to be filled in.
        self.assert_fails(self.compose(read("compose/compose.yaml"), read("compose/example.env")), "is missing in .env")
        names = re.findall(r"^(\w+)=", read("compose/example.env"), re.MULTILINE)
        self.assertEqual(names, re.findall(r"^(\w+)=", ENVIRONMENT, re.MULTILINE))

    def test_addresses_and_times_fit_together(self):
        services = self.project()["services"]
        config, nginx = read("compose/config.toml"), read("compose/nginx.conf")
        grace = int(re.search(r"^shutdown_grace_s = (\d+)$", config, re.MULTILINE)[1])
        addresses = {name: service["networks"]["inside"]["ipv4_address"] for name, service in services.items() if name != "redis"}

        for node in NODES:
            self.assertIn(f"server {addresses[node]}:8080 ", nginx)
            self.assertLess(grace, int(services[node]["stop_grace_period"].removesuffix("s")))
        self.assertIn(f'trusted_proxies = ["{addresses["nginx"]}"]', config)
        # Otherwise each worker counts connections by itself.
        self.assertRegex(nginx, r"upstream campanile \{[^}]*\bzone campanile \d+k;")
        self.assertEqual(len(re.findall(r"^ *server [\d.]+:", nginx, re.MULTILINE)), len(NODES))

    def test_nginx_is_configured_as_the_document_says(self):
        document = (REPOSITORY / "docs/proxies.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```nginx\n# /etc/nginx/(?:conf\.d|snippets)/campanile\.conf\n(.*?)```", document, re.DOTALL)
        self.assertEqual(len(blocks), 2)
        directives = {line.strip() for block in blocks for line in block.splitlines() if line.strip().endswith(";")}
        # The addresses of the nodes are others.
        directives.discard("server 127.0.0.1:8080;")
        self.assertLess(10, len(directives))

        self.assertEqual(directives - {line.strip() for line in read("compose/nginx.conf").splitlines()}, set())


class Running(ComposeTest):
    def setUp(self):
        super().setUp()
        self.services = self.project()["services"]
        self.redis_port = free_port()
        content = replace(self.project()["configs"]["redis"]["content"], ("dir /data", f"dir {self.folder}"))
        config = self.write("redis.conf", f"{content}\nbind 127.0.0.1\nport {self.redis_port}\n")
        self.redis = self.enterContext(Process("redis-server", config, ready=lambda: self.redis_cli("ping") == "PONG"))

    def redis_cli(self, *command):
        return run("redis-cli", "-p", self.redis_port, *command, env={"REDISCLI_AUTH": PASSWORD}).stdout.strip()

    def node(self, name):
        """A node with the configuration and the environment of its service."""
        env = self.services[name]["environment"]
        return self.enterContext(Campanile(DEPLOY / "compose/config.toml", env | {
            "CAMPANILE_REDIS__URL": replace(env["CAMPANILE_REDIS__URL"], ("@redis:6379", f"@127.0.0.1:{self.redis_port}")),
            "CAMPANILE_SERVER__TRUSTED_PROXIES": "127.0.0.1",
        }))

    def nginx(self, ports, *changes):
        """The command of nginx with its configuration, in front of nodes on these ports; the port of nginx itself."""
        tls = self.folder / "tls"
        tls.mkdir()
        self.assert_succeeds(run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", tls / "privkey.pem", "-out", tls / "fullchain.pem"))
        port, tls_port = free_port(), free_port()
        paths = "".join(f"    {kind}_temp_path {self.folder}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        text = replace(
            read("compose/nginx.conf"),
            *((f"{self.services[node]['networks']['inside']['ipv4_address']}:8080", f"127.0.0.1:{at}") for node, at in zip(NODES, ports)),
            ("listen 80;", f"listen 127.0.0.1:{port};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;"),
            ("/etc/nginx/tls", tls),
            ("/var/run/nginx.pid", self.folder / "nginx.pid"),
            ("http {\n", f"http {{\n{paths}"),
            *changes,
        )
        config = self.write("nginx.conf", text)
        return ["nginx", "-e", "stderr", "-p", self.folder, "-c", config], port, tls_port

    def test_nginx_accepts_its_configuration_and_rejects_a_wrong_one(self):
        command, *_ = self.nginx([1, 2])
        self.assert_succeeds(run(*command, "-t"))

        wrong = replace((self.folder / "nginx.conf").read_text(encoding="utf-8"), ("proxy_read_timeout", "proxy_reed_timeout"))
        self.write("nginx.conf", wrong)
        self.assert_fails(run(*command, "-t"), 'unknown directive "proxy_reed_timeout"')

    def test_redis_evicts_nothing_and_the_health_checks_succeed(self):
        self.assertEqual(self.redis_cli("config", "get", "maxmemory-policy").split()[1], "noeviction")
        self.assertEqual(self.redis_cli("config", "get", "appendonly").split()[1], "yes")
        shell, check = self.services["redis"]["healthcheck"]["test"]
        self.assertEqual(shell, "CMD-SHELL")
        env = self.services["redis"]["environment"]
        check = replace(check.replace("$$", "$"), ("redis-cli", f"redis-cli -p {self.redis_port}"))
        self.assert_succeeds(run("sh", "-c", check, env=env))
        self.assertNotEqual(run("sh", "-c", check, env=env | {"REDISCLI_AUTH": "another"}).returncode, 0)

        for name in NODES:
            server = self.node(name)
            kind, program, *arguments = self.services[name]["healthcheck"]["test"]
            self.assertEqual((kind, program), ("CMD", "/campanile"))
            # The server and the check read the configuration in the working directory of the image.
            [volume] = self.services[name]["volumes"]
            self.assertEqual(volume["target"], "/config.toml")
            env = self.services[name]["environment"] | {"CAMPANILE_SERVER__PORT": str(server.port)}
            check = functools.partial(run, CAMPANILE_BIN, *arguments, env=env, cwd=DEPLOY / "compose")
            self.assert_succeeds(check())
            server.stop()
            self.assert_fails(check(), "cannot reach")

    def test_clients_and_publishers_reach_both_nodes_and_survive_the_restart_of_one(self):
        nodes = [self.node(name) for name in NODES]
        command, port, tls_port = self.nginx([node.port for node in nodes])
        nginx = self.enterContext(Process(*command, "-g", "daemon off;", ready=lambda: get(port, "/up")[0] == 200))
        url, tls = f"http://127.0.0.1:{port}", [f"https://127.0.0.1:{tls_port}", "--ca", str(self.folder / "tls/fullchain.pem")]
        listeners = [self.enterContext(listener) for listener in
                     [Listener(url), Listener(*tls), Listener(url), Listener(*tls)]]
        self.assertEqual([node.metric("campanile_connections") for node in nodes], [2, 2])

        self.assert_succeeds(publish(tls[0], "hello", *tls[1:]))
        for listener in listeners:
            listener.receives("hello")

        self.assertEqual(nodes[0].stop(signal.SIGTERM), 0)
        wait_until(lambda: nodes[1].metric("campanile_connections") == 4, "all clients on the other node")
        # Those of the stopped node have subscribed again.
        for listener in listeners:
            if "the server closed the connection" in listener.text:
                listener.subscribed()
        self.assert_succeeds(publish(url, "again"))
        for listener in listeners:
            listener.receives("again")
        self.assertEqual(nginx.stop(), 0)
