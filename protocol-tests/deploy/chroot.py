"""A root folder with dpkg and what maintainer scripts call, copied from this machine, so that no package is installed on it."""

import atexit
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools import CAMPANILE_BIN, run

# What dpkg and the scripts of a package call. Perl is for the helpers of Debian.
PROGRAMS = """
    cat chgrp chmod chown deb-systemd-helper deb-systemd-invoke diff dpkg dpkg-deb dpkg-query dpkg-split id ldconfig ln mkdir mv perl rm sed
    sh start-stop-daemon stat systemd-sysusers tar
""".split()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Stands for systemctl: records its arguments.
SYSTEMCTL = "#!/bin/sh\necho \"$@\" >>/calls\n"


@functools.cache
def template():
    """The root folder that each test copies."""
    root = Path(tempfile.mkdtemp(prefix="campanile-root-"))
    atexit.register(shutil.rmtree, root)
    root.chmod(0o755)
    for folder in ["bin", "sbin", "lib", "lib64"]:
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for folder in ["dev", "etc", "run", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log"]:
        (root / folder).mkdir(parents=True)

    programs = [shutil.which(name, path=PATH) or name for name in PROGRAMS]
    # Those of the server as well, unless it is a static one.
    libraries = set(re.findall(r"(/\S+) \(0x", run("ldd", *programs, CAMPANILE_BIN).stdout))
    modules = [line for line in run("dpkg-query", "--listfiles", "perl-base").stdout.splitlines() if Path(line).is_file()]
    for path in [*programs, *libraries, *modules]:
        copy = root / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)

    systemctl = root / "usr/bin/systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    # Scripts throw away what they write into it.
    (root / "dev/null").touch(0o666)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    # What the package depends on counts as installed, with the versions of this machine.
    installed = run("dpkg-query", "--status", "libc6", "systemd").stdout
    (root / "var/lib/dpkg/status").write_text(re.sub(r"^(Pre-)?Depends: .*\n", "", installed, flags=re.MULTILINE))
    return root


class Machine:
    """A copy of the root folder: a machine on which packages are installed."""

    def __init__(self, root, has_systemd):
        subprocess.run(["cp", "--archive", template(), root], check=True)
        self.root = root
        if has_systemd:
            (root / "run/systemd/system").mkdir(parents=True)

    def run(self, *command):
        return run("chroot", self.root, *command, env={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"}, stdin=subprocess.DEVNULL)

    def dpkg(self, action, package, *flags):
        """Installs a package file, or removes or purges an installed package."""
        if action == "--install":
            shutil.copy(package, self.root / "tmp/package.deb")
            package = "/tmp/package.deb"
        return self.run("dpkg", *flags, action, package)

    def calls(self):
        """The calls of systemctl since the last call of this."""
        log = self.root / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines
