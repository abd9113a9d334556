"""What `campanile init` writes from the files of this folder, read by the programs that the files are for."""

import stat

import yaml

from tools import CAMPANILE_BIN, PROGRAMS, FilesTest, run


class Init(FilesTest):
    def init(self, *arguments):
        return self.assert_succeeds(run(CAMPANILE_BIN, "init", "--yes", *arguments, cwd=self.folder))

    def text(self, name):
        return (self.folder / name).read_text(encoding="utf-8")

    def test_systemd_accepts_the_units(self):
        self.init("--port", "9000", "--systemd=units", "config.toml")

        units = [self.folder / "units" / name for name in ["campanile.service", "campanile.socket"]]
        done = run("systemd-analyze", "verify", "--man=no", *units)
        self.assertEqual([line for line in done.stderr.splitlines() if "campanile" in line], [])
        self.assertIn(f"ExecStart={CAMPANILE_BIN} start --config {self.folder}/config.toml\n", self.text("units/campanile.service"))
        self.assertIn("ListenStream=9000\n", self.text("units/campanile.socket"))
        (self.folder / "etc").mkdir()
        users = run("systemd-sysusers", "--dry-run", f"--root={self.folder}", self.folder / "units/sysusers.conf")
        self.assertIn("Creating user 'campanile'", self.assert_succeeds(users) + users.stderr)
        # What names another program is noticed.
        self.write("units/campanile.service", self.text("units/campanile.service").replace(str(CAMPANILE_BIN), "/nonexistent"))
        self.assertIn("not executable", run("systemd-analyze", "verify", "--man=no", *units).stderr)

    def test_docker_compose_nginx_and_the_server_accept_the_folder(self):
        out = self.init("--port", "9000", "--origins", "a.test", "--compose=stack")

        folder = self.folder / "stack"
        compose = [PROGRAMS / "docker-compose", "--project-directory", folder]
        project = yaml.safe_load(self.assert_succeeds(run(*compose, "--file", folder / "compose.yaml", "config", cwd=folder)))
        self.assertEqual(set(project["services"]), {"campanile-1", "campanile-2", "redis", "nginx"})
        self.assertNotIn("build", project["services"]["campanile-1"])
        for service in project["services"].values():
            for volume in service.get("volumes", []):
                if volume["type"] == "bind":
                    self.assertTrue(volume["source"].startswith(f"{folder}/"), volume)
                    self.assertIn(volume["source"].removeprefix(f"{folder}/"), {"config.toml", "nginx.conf", "tls"})
                    self.assertTrue((folder / volume["source"]).exists(), volume)
        self.assertEqual(stat.S_IMODE((folder / ".env").stat().st_mode), 0o600)
        environment = project["services"]["campanile-1"]["environment"]
        checked = self.assert_succeeds(
            run(CAMPANILE_BIN, "check", "--config", "config.toml", "--env-file", "/dev/null", env=environment, cwd=folder)
        )
        self.assertIn("port = 9000", checked.replace("_", ""))
        self.assertIn('"a.test"', checked)
        # The printed credentials are those of the containers.
        self.assertIn(f"REVERB_APP_KEY={environment['CAMPANILE_APPS__0__KEY']}\n", out)
        self.assertIn(f"REVERB_APP_SECRET={environment['CAMPANILE_APPS__0__SECRET']}\n", out)
        self.assertEqual(self.text("stack/nginx.conf").count(":9000 max_fails"), 2)

    def test_files_are_replaced_by_force_only(self):
        for flag in ["--compose=stack", "--systemd=units"]:
            with self.subTest(flag):
                self.init(flag)
                again = [CAMPANILE_BIN, "init", "--yes", flag]
                self.assert_fails(run(*again, cwd=self.folder), "exists: --force replaces it")
                self.assert_succeeds(run(*again, "--force", cwd=self.folder))
