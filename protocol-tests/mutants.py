#!/usr/bin/env python3
"""Mutation testing: changes the program in small ways, and reports which changes no test notices.

    protocol-tests/mutants.py MODULE [--sample N] [--seed S] [--only REGEX]   one module (names: --list)
    protocol-tests/mutants.py changed [--since COMMIT] [--sample N]           lines that recent commits changed

`cargo mutants` makes the changes (install it with `cargo install --locked cargo-mutants --version 27.1.0`). Each mutant of the sample is
first run against the unit tests of its folder, then against all unit tests, then against the slower suites of the module. A mutant counts as
noticed if a test fails or does not end. Mutants that do not compile do not count. Survivors that are accepted are listed
with their reasons in `mutants.toml`. The exit code is 1 if the score is below `--at-least`.

It works on a copy of the tree in `target/mutants`, so files may be edited meanwhile; what is not committed is copied, too.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
ACCEPTED = ROOT / "protocol-tests" / "mutants.toml"

# Arguments of `cargo test`, and after how many seconds a run counts as one that does not end.
UNIT = (("--lib", "--bins", "--", "--skip", "simulation::"), 300)
CONFORMANCE = (("--test", "conformance"), 600)
DOCTOR = (("--test", "doctor"), 600)
SIMULATION = (("--lib", "--", "simulation::tests"), 600)
DATABASES = (("--test", "databases"), 600)
CLUSTER_WEBHOOKS = (("--test", "cluster_webhooks"), 600)
CLUSTER = (("--test", "cluster", "--", "--skip", "chaos"), 1_200)
# Those that take minutes.
SLOW = (SIMULATION, DATABASES, CLUSTER_WEBHOOKS, CLUSTER)

# How many commits count as recent.
RECENT = 20

# The files of each module, and the suites that its mutants are run against after the unit tests.
MODULES = {
    "protocol": (["src/protocol"], [CONFORMANCE]),
    "session": (["src/session"], [CONFORMANCE]),
    "channel": (["src/channel"], [CONFORMANCE]),
    "hub": (["src/hub"], [CONFORMANCE]),
    "broker": (["src/broker/mod.rs", "src/broker/local"], [CONFORMANCE, CLUSTER]),
    "shard": (["src/shard"], [CONFORMANCE]),
    "cluster": (["src/broker/redis"], [SIMULATION, CLUSTER_WEBHOOKS, CLUSTER]),
    "webhook": (["src/webhook", "src/http_client", "src/backoff.rs"], [CONFORMANCE, CLUSTER_WEBHOOKS]),
    "auth": (["src/http/auth.rs", "src/signature.rs"], [CONFORMANCE]),
    "http": (["src/http"], [CONFORMANCE]),
    "config": (["src/config"], [CONFORMANCE]),
    "server": (["src/server", "src/shutdown.rs", "src/rate.rs", "src/permit.rs", "src/throttle.rs", "src/clock.rs"], [CONFORMANCE]),
    "node": (["src/node", "src/app.rs"], [CONFORMANCE, DATABASES]),
    "app_database": (["src/app_database"], [DATABASES]),
    "tls": (["src/tls"], [CONFORMANCE]),
    "metrics": (["src/metrics", "src/metrics.rs"], [CONFORMANCE]),
    "doctor": (["src/cli/doctor"], [DOCTOR]),
    "cli": (["src/cli", "src/main.rs", "src/host.rs", "src/file.rs", "src/escape.rs"], [CONFORMANCE]),
}


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def copy_tree():
    """Brings the copy up to date. Files that did not change keep their time, so that cargo does not build them again."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    names = {name for name in listed if (ROOT / name).is_file()}
    for name in names:
        source, target = ROOT / name, TREE / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    for path in [path for path in TREE.rglob("*") if path.is_file()]:
        if str(path.relative_to(TREE)) not in names:
            path.unlink()


def cargo_mutants(*arguments, capture=False):
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "CAMPANILE_SIMULATION_SEEDS": "10",
    }
    command = ["cargo", "mutants", "--in-place", "--no-config", "--dir", str(TREE), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True, capture_output=capture)


def list_mutants(paths, only):
    """The names of the mutants of some files and folders. A name starts with its file, line and column."""
    files = [pattern for path in paths for pattern in ("--file", path if path.endswith(".rs") else f"{path}/**/*.rs")]
    done = cargo_mutants("--list", "--json", *files, capture=True)
    if done.returncode != 0:
        sys.exit(f"cargo mutants failed:\n{done.stderr}")
    # The simulation is part of the tests.
    names = (mutant["name"] for mutant in json.loads(done.stdout))
    return [name for name in names if re.search(only, name) and "/simulation/" not in name]


def changed_lines(since):
    """The changed lines of the program: pairs of file and line number."""
    changed, file = set(), ""
    for line in git("diff", "--unified=0", since, "--", "src").splitlines():
        if line.startswith("+++ "):
            file = line.removeprefix("+++ b/")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            changed.update((file, number) for number in range(first, first + count))
    return changed


def place(name):
    """
    >>> place("src/app.rs:12:5: replace App::id -> u32 with 0")
    ('src/app.rs', 12, 'src/app.rs: replace App::id -> u32 with 0')
    """
    file, line, _column, what = name.split(":", 3)
    return file, int(line), f"{file}:{what}"


def accepted():
    """The mutants that `mutants.toml` accepts: their names without line and column."""
    return {entry["mutant"] for entry in tomllib.loads(ACCEPTED.read_text()).get("accepted", [])}


def run_suite(suite, names, output):
    """Runs a suite against each of the mutants. Returns how each ended, by its name."""
    arguments, timeout = suite
    # The targets are named for the build, too, which would build all of them otherwise.
    at = arguments.index("--") if "--" in arguments else len(arguments)
    targets = [f"--cargo-arg={target}" for target in arguments[:at]]
    print(f"\n{len(names)} mutants: cargo test {' '.join(arguments)}", flush=True)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    exact = "^(" + "|".join(re.escape(name) for name in names) + ")$"
    # Its version 27.1 applies --re to every mutant but those that delete a field.
    files = [option for file in {place(name)[0] for name in names} for option in ("--file", file)]
    cargo_mutants(
        *files, "--re", exact, "--output", str(output), "--profile", "mutants", "--timeout", str(timeout),
        "--test-package", "campanile", "--test-package", "protocol-tests",
        "--baseline", "skip", "--no-shuffle", *targets, "--", *arguments[at:],
    )  # fmt: skip
    outcomes = json.loads((output / "mutants.out" / "outcomes.json").read_text())["outcomes"]
    ends = {each["scenario"]["Mutant"]["name"]: each["summary"] for each in outcomes if each["scenario"] != "Baseline"}
    if missing := [name for name in names if name not in ends]:
        sys.exit(f"cargo mutants did not run {len(missing)} mutants, {missing[0]} for one")
    return ends


def survivors(suites_of):
    """Runs the suites of each mutant one after the other until one notices it. Returns survivors and the uncompiled."""
    left, unviable = list(suites_of), set()
    for number, suite in enumerate(in_order(suites_of)):
        names = [name for name in left if suite in suites_of[name]]
        if not names:
            continue
        ends = run_suite(suite, names, WORK / f"suite-{number}")
        unviable.update(name for name in names if ends[name] == "Unviable")
        left = [name for name in left if name not in names or ends[name] == "MissedMutant"]
    return left, unviable


def in_order(suites_of):
    """Each suite once, the fast ones first."""
    suites = {suite: None for suites in suites_of.values() for suite in suites}
    order = [UNIT, CONFORMANCE, DOCTOR, *SLOW]
    return sorted(suites, key=lambda suite: order.index(suite) if suite in order else -1)


def baseline(suites):
    """The suites have to pass without a change: a test that fails anyway notices everything."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "build"), "CAMPANILE_SIMULATION_SEEDS": "10"}
    for arguments, _timeout in suites:
        command = ["cargo", "test", "--quiet", "--profile", "mutants", *arguments]
        done = subprocess.run(command, cwd=TREE, env=environment, check=False, text=True, capture_output=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} fails without a change:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def suites_of(name, is_fast):
    """The suites that a mutant is run against: the unit tests of its folder, all unit tests, and those of its module.

    >>> [arguments[-3:] for arguments, _ in suites_of("src/hub/users.rs:1:2: delete ! in f", True)]
    [('hub::', '--skip', 'simulation::'), ('--', '--skip', 'simulation::'), ('--test', 'conformance')]
    >>> CLUSTER_WEBHOOKS in suites_of("src/http_client/mod.rs:1:2: delete ! in f", False)
    True
    """
    file = place(name)[0]
    own = (("--lib", "--", file.removeprefix("src/").removesuffix(".rs").split("/")[0] + "::", "--skip", "simulation::"), 120)
    def has(path):
        return file == path or file.startswith(path + "/")

    suites = next((suites for paths, suites in MODULES.values() if any(map(has, paths))), [CONFORMANCE])
    return [own, UNIT, *(suite for suite in suites if not (is_fast and suite in SLOW))]


def recent_commit():
    """A commit some way back, or the first one that is here."""
    commits = git("rev-list", "--first-parent", f"--max-count={RECENT + 1}", "HEAD").split()
    return commits[-1]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="?", choices=[*MODULES, "changed"])
    parser.add_argument("--list", action="store_true", help="list the modules and how many mutants each has")
    parser.add_argument("--sample", type=int, default=40, help="how many mutants to draw; 0 for all (default 40)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default 1)")
    parser.add_argument("--only", default="", help="draw only from mutants whose name matches this expression")
    parser.add_argument("--since", help=f"with changed: the commit to compare with (default: {RECENT} commits back)")
    parser.add_argument("--fast", action="store_true", help="leave out the suites that take minutes")
    parser.add_argument("--no-baseline", action="store_true", help="do not first run the suites without a change")
    parser.add_argument("--at-least", type=float, default=0, help="the lowest accepted score, in percent")
    return parser, parser.parse_args()


def main():
    parser, options = parse()
    copy_tree()
    if options.list:
        for module, (paths, _) in MODULES.items():
            print(f"{module:10} {len(list_mutants(paths, '')):5} mutants: {' '.join(paths)}")
        return
    if options.module is None:
        parser.error("which module? (--list)")
    if options.module == "changed":
        changed = changed_lines(options.since or recent_commit())
        names = [name for name in list_mutants(["src"], options.only) if place(name)[:2] in changed]
    else:
        names = list_mutants(MODULES[options.module][0], options.only)
    size = options.sample or len(names)
    sample = names if size >= len(names) else sorted(random.Random(options.seed).sample(names, size))
    print(f"{options.module}: {len(sample)} of {len(names)} mutants, seed {options.seed}")
    suites = {name: suites_of(name, options.fast) for name in sample}
    if not options.no_baseline:
        baseline(in_order(suites))
    left, unviable = survivors(suites)
    reasons = accepted()
    excused = [name for name in left if place(name)[2] in reasons]
    unnoticed = [name for name in left if name not in excused]
    viable = len(sample) - len(unviable)
    score = 100 * (viable - len(unnoticed)) / viable if viable else 100
    for name in unnoticed:
        print(f"unnoticed: {name}")
    print(f"{options.module}, seed {options.seed}: {viable} mutants, {viable - len(left)} noticed, "
          f"{len(excused)} accepted, {len(unnoticed)} unnoticed: {score:.0f} %")  # fmt: skip
    if score < options.at_least:
        sys.exit(f"below {options.at_least:.0f} %")


if __name__ == "__main__":
    main()
