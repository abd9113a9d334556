"""The package of `packaging/deb`: dpkg installs, upgrades, removes and purges it on a machine that is a folder."""

import os
import re
import shutil
import unittest
from pathlib import Path

import packages
from chroot import Machine
from tools import DEPLOY, SECRET, FilesTest, replace, run

CONFIG = "etc/campanile/config.toml"
UNITS = ["campanile.service", "campanile.socket", "campanile-metrics.socket"]
# The project has no address yet.
LINTIAN_EXPECTED = {"bogus-mail-host-in-debian-changelog", "malformed-contact"}


def setUpModule():
    global DEB
    DEB = packages.package("deb", packages.host(), "--fast", into=packages.folder())


class Deb(FilesTest):
    def changed(self, *changes, revision=1):
        """A copy of the package: another revision, and with changes to files by their paths."""
        unpacked = self.folder / f"changed-{revision}"
        self.assert_succeeds(run("dpkg-deb", "--raw-extract", DEB, unpacked))
        version = f"Version: {packages.VERSION}-"
        for path, old, new in [("DEBIAN/control", f"{version}1", f"{version}{revision}"), *changes]:
            file = unpacked / path
            file.write_text(replace(file.read_text(encoding="utf-8"), (old, new)), encoding="utf-8")
        package = self.folder / f"campanile_{packages.VERSION}-{revision}.deb"
        self.assert_succeeds(run("dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, package))
        return package


class Contents(Deb):
    def files(self):
        """Permissions of the files by their paths."""
        lines = self.assert_succeeds(run("dpkg-deb", "--contents", DEB)).splitlines()
        return {line.split()[5].removeprefix("./"): line.split()[0] for line in lines if line.startswith("-")}

    def control(self, field):
        return self.assert_succeeds(run("dpkg-deb", "--field", DEB, field)).strip()

    def test_it_has_the_files_where_debian_has_them(self):
        files = self.files()

        expected = ["usr/bin/campanile", CONFIG, "usr/lib/sysusers.d/campanile.conf", "usr/share/man/man1/campanile.1.gz"]
        expected += [f"usr/lib/systemd/system/{unit}" for unit in UNITS]
        expected += ["usr/share/bash-completion/completions/campanile", "usr/share/zsh/vendor-completions/_campanile"]
        expected += ["usr/share/fish/vendor_completions.d/campanile.fish"]
        documents = ["README.md", "README.Debian", "copyright", "changelog.gz", "changelog.Debian.gz", "LICENSES-OF-LIBRARIES.gz", "docs/production.md", "docs/migrate/reverb.md"]
        expected += [f"usr/share/doc/campanile/{name}" for name in documents]
        self.assertEqual(set(expected) - set(files), set())
        self.assertEqual({path for path, mode in files.items() if mode == "-rwxr-xr-x"}, {"usr/bin/campanile"})
        self.assertEqual({path for path, mode in files.items() if mode not in ["-rwxr-xr-x", "-rw-r--r--"]}, {CONFIG})
        # The kernel settings are an example: they concern the whole machine.
        self.assertEqual([path for path in files if "sysctl.d" in path], [])

    def test_its_fields_are_those_of_the_program(self):
        self.assertEqual(self.control("Version"), f"{packages.VERSION}-1")
        self.assertEqual(DEB.name, f"campanile_{packages.VERSION}-1_{self.control('Architecture')}.deb")
        self.assertEqual(self.control("Architecture"), run("dpkg", "--print-architecture").stdout.strip())
        self.assertIn("libc6 (>=", self.control("Depends"))
        self.assertIn("systemd | systemd-standalone-sysusers", self.control("Depends"))

    def test_the_units_are_those_of_deploy_with_other_paths(self):
        self.assert_succeeds(run("dpkg-deb", "--extract", DEB, self.folder / "root"))
        units = self.folder / "root/usr/lib/systemd/system"
        for unit in UNITS:
            text = (DEPLOY / "systemd" / unit).read_text(encoding="utf-8")
            text = text.replace("/usr/local/bin/", "/usr/bin/").replace("/etc/systemd/system/", "/usr/lib/systemd/system/")
            self.assertEqual((units / unit).read_text(encoding="utf-8"), text)

        verify = ["systemd-analyze", "verify", "--man=no", f"--root={self.folder / 'root'}", *UNITS]
        # In this root are no units of systemd, which it says.
        missing = "/usr/bin/campanile is not executable"
        self.assertNotIn(missing, run(*verify).stderr)
        (self.folder / "root/usr/bin/campanile").unlink()
        self.assertIn(missing, run(*verify).stderr)

    def test_a_second_one_is_the_same(self):
        second = packages.package("deb", packages.host(), "--fast", into=self.folder)
        self.assertTrue(second.read_bytes() == DEB.read_bytes(), "the packages differ")

    def test_lintian_finds_no_fault_but_the_missing_address(self):
        def tags(package):
            done = run("lintian", "--allow-root", "--suppress-tags", "unstripped-binary-or-object", package)
            return set(re.findall(r"^[EW]: campanile: (\S+)", done.stdout, re.MULTILINE))

        self.assertEqual(tags(DEB) - LINTIAN_EXPECTED, set())
        wrong = self.changed(("DEBIAN/postinst", "set -e\n", ""), ("usr/lib/systemd/system/campanile.service", "[Install]\n", "[Instal]\n"))
        self.assertIn("maintainer-script-ignores-errors", tags(wrong))


@unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
class Installation(Deb):
    def machine(self, has_systemd=True):
        return Machine(self.folder / "machine", has_systemd)

    def installed(self, has_systemd=True):
        machine = self.machine(has_systemd)
        self.assert_succeeds(machine.dpkg("--install", DEB))
        return machine

    def configure(self, machine):
        """What an administrator does; returns the new configuration."""
        config = machine.root / CONFIG
        text = replace(config.read_text(encoding="utf-8"), ("<openssl rand -hex 20>", SECRET))
        config.write_text(text, encoding="utf-8")
        for target, unit in [("sockets", "campanile.socket"), ("multi-user", "campanile.service")]:
            link = machine.root / f"etc/systemd/system/{target}.target.wants/{unit}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/usr/lib/systemd/system/{unit}")
        return text

    def links(self, machine):
        """What is enabled."""
        return {link.name for link in (machine.root / "etc/systemd/system").glob("*.wants/*")}

    def assert_config_is_protected(self, machine):
        owner = self.assert_succeeds(machine.run("stat", "--format=%U:%G %a", f"/{CONFIG}")).strip()
        self.assertEqual(owner, "root:campanile 640")

    def test_it_is_installed_without_starting_anything(self):
        machine = self.installed()

        self.assertEqual(machine.calls(), ["--system daemon-reload"])
        self.assertEqual(self.links(machine), set())
        self.assertRegex(self.assert_succeeds(machine.run("id", "campanile")), r"uid=\d+\(campanile\) gid=\d+\(campanile\)")
        self.assert_config_is_protected(machine)
        self.assertEqual(self.assert_succeeds(machine.run("campanile", "--version")), f"campanile {packages.VERSION}\n")

    def test_the_server_does_not_start_before_it_has_an_app(self):
        machine = self.installed()
        start = machine.run("campanile", "start", "--config", f"/{CONFIG}")
        self.assert_fails(start, "published placeholder")
        self.assertEqual(start.returncode, 2)

        self.configure(machine)
        self.assert_succeeds(machine.run("campanile", "check", "--config", f"/{CONFIG}"))

    def test_without_systemd_nothing_is_told_to_it(self):
        machine = self.installed(has_systemd=False)
        self.assert_succeeds(machine.dpkg("--install", self.changed(revision=2)))
        self.assert_succeeds(machine.dpkg("--purge", "campanile"))
        self.assertEqual(machine.calls(), [])

    def test_an_upgrade_restarts_the_service_and_not_the_socket(self):
        machine = self.installed()
        self.configure(machine)
        machine.calls()

        self.assert_succeeds(machine.dpkg("--install", self.changed(revision=2)))

        self.assertEqual(machine.calls(), ["--system daemon-reload", "try-restart campanile.service"])
        self.assertEqual(self.links(machine), {"campanile.service", "campanile.socket"})

    def test_a_changed_configuration_survives_upgrades(self):
        machine = self.installed()
        configured = self.configure(machine)
        config = machine.root / CONFIG

        self.assert_succeeds(machine.dpkg("--install", self.changed(revision=2)))
        self.assertEqual(config.read_text(encoding="utf-8"), configured)

        # The package has another one now: without a person who is asked, dpkg keeps the changed one, and puts the other beside it.
        newer = self.changed((CONFIG, 'key = "my-key"', 'key = "their-key"'), revision=3)
        self.assert_succeeds(machine.dpkg("--install", newer, "--force-confdef", "--force-confold"))
        self.assertEqual(config.read_text(encoding="utf-8"), configured)
        self.assertIn("their-key", config.with_name("config.toml.dpkg-dist").read_text(encoding="utf-8"))
        self.assert_config_is_protected(machine)

    def test_an_unchanged_configuration_is_replaced_and_stays_protected(self):
        machine = self.installed()
        newer = self.changed((CONFIG, 'key = "my-key"', 'key = "their-key"'), revision=2)

        self.assert_succeeds(machine.dpkg("--install", newer))

        self.assertIn("their-key", (machine.root / CONFIG).read_text(encoding="utf-8"))
        self.assert_config_is_protected(machine)

    def test_a_removed_package_stops_and_keeps_the_configuration(self):
        machine = self.installed()
        configured = self.configure(machine)
        machine.calls()

        self.assert_succeeds(machine.dpkg("--remove", "campanile"))

        self.assertEqual(machine.calls(), ["stop campanile.socket campanile-metrics.socket campanile.service", "--system daemon-reload"])
        self.assertFalse((machine.root / "usr/bin/campanile").exists())
        self.assertEqual((machine.root / CONFIG).read_text(encoding="utf-8"), configured)

        self.assert_succeeds(machine.dpkg("--install", DEB))
        self.assertEqual((machine.root / CONFIG).read_text(encoding="utf-8"), configured)
        self.assert_config_is_protected(machine)

    def test_a_purged_package_leaves_nothing_but_the_user(self):
        before = self.tree(self.machine().root)
        shutil.rmtree(self.folder / "machine")
        machine = self.installed()
        self.configure(machine)
        (machine.root / "etc/campanile/key.pem").write_text("secret")
        # An upgrade learns what was enabled.
        self.assert_succeeds(machine.dpkg("--install", self.changed(revision=2)))

        self.assert_succeeds(machine.dpkg("--purge", "campanile"))

        self.assertEqual(self.links(machine), set())
        left = self.tree(machine.root) - before
        expected = {"etc/gshadow", "etc/shadow", "etc/.pwd.lock", "etc/passwd-", "etc/group-", "calls"}
        self.assertEqual({path for path in left - expected if not path.startswith(("var/lib/dpkg/", "tmp/", "var/log/"))}, set())
        self.assert_succeeds(machine.run("id", "campanile"))

    def tree(self, root):
        return {str(path.relative_to(root)) for path in Path(root).rglob("*") if not path.is_dir() or path.is_symlink()}
