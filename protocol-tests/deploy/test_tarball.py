"""The tarball of `packaging/tarball`: its contents, and that what is in it works where it is unpacked."""

import os
import re
import tarfile

import packages
from servers import Process, free_port, get
from tools import REPOSITORY, FilesTest, run

COMMANDS = ["check", "completions", "health", "init", "listen", "man", "publish", "start", "webhooks"]


def setUpModule():
    global TARBALL
    TARBALL = packages.package("tarball", packages.host(), into=packages.folder())


class Tarball(FilesTest):
    def unpack(self):
        """The folder of the unpacked tarball."""
        self.assert_succeeds(run("tar", "--extract", "--file", TARBALL, cwd=self.folder))
        [unpacked] = self.folder.iterdir()
        return unpacked

    def members(self):
        with tarfile.open(TARBALL) as tar:
            return tar.getmembers()

    def test_it_has_all_files_and_one_folder(self):
        name = f"campanile-{packages.VERSION}-{packages.host()}"
        self.assertEqual(TARBALL.name, f"{name}.tar.gz")
        expected = ["campanile", "LICENSE-APACHE", "LICENSE-MIT", "LICENSES-OF-LIBRARIES", "README.md", "CHANGELOG.md", "config.toml"]
        expected += ["completions/" + file for file in ["_campanile", "_campanile.ps1", "campanile.bash", "campanile.elv", "campanile.fish"]]
        expected += ["man/campanile.1"] + [f"man/campanile-{command}.1" for command in COMMANDS]
        for folder in ["docs", "deploy/systemd", "deploy/sysctl.d", "deploy/supervisor"]:
            files = [file for file in (REPOSITORY / folder).rglob("*") if file.is_file()]
            expected += [str(file.relative_to(REPOSITORY)) for file in files]

        files = {member.name for member in self.members() if member.isfile()}
        self.assertEqual({f"{name}/{file}" for file in expected} - files, set())
        self.assertEqual([file for file in files if not file.startswith(f"{name}/")], [])

    def test_nothing_in_it_is_of_this_machine(self):
        members = self.members()

        self.assertEqual({(member.uid, member.gid, member.uname, member.gname) for member in members}, {(0, 0, "", "")})
        self.assertEqual({member.mtime for member in members}, {packages.TIME})
        executable = [member.name.split("/")[1] for member in members if member.isfile() and member.mode & 0o111]
        self.assertEqual(executable, ["campanile"])
        self.assertEqual({member.mode & 0o7777 for member in members}, {0o755, 0o644})
        self.assertEqual([member.name for member in members], sorted(member.name for member in members))

    def test_a_second_one_is_the_same(self):
        before = os.umask(0o077)
        # For a user that may not be root, as the one of the first is.
        someone = {"TAR_OPTIONS": "--owner=someone:1234 --group=someone:1234"}
        try:
            second = packages.package("tarball", packages.host(), into=self.folder, env=someone)
        finally:
            os.umask(before)

        self.assertEqual(second.name, TARBALL.name)
        self.assertTrue(second.read_bytes() == TARBALL.read_bytes(), "the tarballs differ")

    def test_the_sums_are_those_of_the_packages(self):
        sums = packages.folder() / "SHA256SUMS"
        self.assertIn(f"  {TARBALL.name}\n", sums.read_text(encoding="utf-8"))
        self.assert_succeeds(run("sha256sum", "--check", "--strict", sums, cwd=packages.folder()))

        (self.folder / TARBALL.name).write_bytes(TARBALL.read_bytes()[:-1])
        self.assert_fails(run("sha256sum", "--check", "--ignore-missing", sums, cwd=self.folder), f"{TARBALL.name}: FAILED")

    def test_the_program_runs_where_it_is_unpacked(self):
        unpacked = self.unpack()
        self.assertEqual(self.assert_succeeds(run("./campanile", "--version", cwd=unpacked)), f"campanile {packages.VERSION}\n")

        port = free_port()
        command = [unpacked / "campanile", "start", "--port", port]
        # Without an app of its own, it serves the development app on loopback.
        with Process(*command, ready=lambda: get(port, "/up")[0] == 200, cwd=self.folder) as server:
            self.assertEqual(server.stop(), 0)

    def test_the_configuration_is_one(self):
        unpacked = self.unpack()
        self.assert_succeeds(run("./campanile", "check", "--config", "config.toml", cwd=unpacked))

    def test_bash_completes_commands(self):
        script = 'source "$1"; COMP_WORDS=(campanile "$2"); COMP_CWORD=1; _campanile campanile "$2" campanile; echo "${COMPREPLY[@]}"'
        complete = ["bash", "-c", script, "bash", self.unpack() / "completions/campanile.bash"]

        self.assertEqual(self.assert_succeeds(run(*complete, "sta")).split(), ["start"])
        self.assertLessEqual(set(COMMANDS), set(self.assert_succeeds(run(*complete, "")).split()))
        self.assertEqual(self.assert_succeeds(run(*complete, "nothing")).split(), [])

    def test_the_manual_pages_are_well_formed(self):
        pages = sorted((self.unpack() / "man").iterdir())
        self.assertLess(len(COMMANDS), len(pages))
        self.assert_succeeds(run("mandoc", "-T", "lint", "-W", "error", *pages))
        for page in pages:
            self.assertRegex(self.assert_succeeds(run("mandoc", "-T", "ascii", page)), "campanile")

        text = pages[0].read_text(encoding="utf-8")
        self.assert_fails(run("mandoc", "-T", "lint", "-W", "error", self.write("page.1", f"{text}.XX\n")), "unknown macro")

    def test_a_program_for_another_processor_has_the_pages_of_one_that_runs_here(self):
        foreign = self.write("program", "for another processor")
        env = {"CAMPANILE_PROGRAM": foreign, "CAMPANILE_PAGES_PROGRAM": packages.program()}
        tarball = packages.package("tarball", "riscv64gc-unknown-linux-gnu", into=self.folder / "foreign", env=env)

        name = f"campanile-{packages.VERSION}-riscv64gc-unknown-linux-gnu"
        self.assertEqual(tarball.name, f"{name}.tar.gz")
        with tarfile.open(tarball) as tar:
            self.assertEqual(tar.extractfile(f"{name}/campanile").read(), foreign.read_bytes())
            self.assertIn(b"_campanile", tar.extractfile(f"{name}/completions/campanile.bash").read())

    def test_all_libraries_have_their_licences(self):
        text = (self.unpack() / "LICENSES-OF-LIBRARIES").read_text(encoding="utf-8")
        listed = set(re.findall(r"^(\S+) \d\S*: ", text, re.MULTILINE))

        self.assertLessEqual({"hyper", "ring", "rustls", "tokio"}, listed)
        # Of the tests, and macros.
        self.assertTrue({"mlua", "rcgen", "serde_derive", "campanile"}.isdisjoint(listed))
        # The texts are below the names of their libraries.
        self.assertRegex(text, r"\n-{80}\n\n.*\btokio 1.*\n\nMIT License\n\nCopyright \(c\) Tokio Contributors")


class Binstall(FilesTest):
    def test_cargo_binstall_looks_for_the_names_of_the_tarball(self):
        settings = packages.MANIFEST["package"]["metadata"]["binstall"]
        values = {"repo": "https://example.com/campanile", "version": packages.VERSION, "target": packages.host()}

        def rendered(template):
            return re.sub(r"\{ (\w+) \}", lambda name: values[name[1]], template)

        place = f"https://example.com/campanile/releases/download/v{packages.VERSION}/"
        self.assertEqual(rendered(settings["pkg-url"]), place + TARBALL.name)
        self.assertEqual(settings["pkg-fmt"], "tgz")
        with tarfile.open(TARBALL) as tar:
            self.assertTrue(tar.getmember(rendered(settings["bin-dir"])).isfile())
