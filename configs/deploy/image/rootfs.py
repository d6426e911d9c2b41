#!/usr/bin/env python3
"""Collects the files that the image without a distribution needs beside the service: Python, shared libraries, a few others.

Runs as a step of the image build: `rootfs.py APP ROOTFS`. The Debian package of each library is noted in
/var/lib/dpkg/status.d, where scanners look for it.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "site-packages", "dist-packages", "config-*")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LIBRARY_CACHE = Path("/etc/ld.so.cache")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nbentoml:x:1034:0:service:/tmp:/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def libraries(files: list[Path]) -> set[Path]:
    """The shared libraries that files need, and the loader, as paths of this system.

    A library that ldd does not find is not missing if it is among the files: wheels load their own libraries by themselves.
    """
    found, own = set(), {file.name for file in files}
    for file in files:
        listed = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
        if missing := set(re.findall(r"(\S+) => not found", listed)) - own:
            sys.exit(f"{file} needs {', '.join(missing)}, which is not there; install its package in the build stage")
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}
    return found


def copy(source: Path, root: Path) -> None:
    """Copy a file to the same path under root. A symbolic link is copied as the file that it names."""
    target = root / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def note_packages(files: set[Path], root: Path) -> None:
    """Note the Debian packages of files, with the checksums of the files. Files without a package belong to Python and are left out."""
    packages: dict[str, list[Path]] = {}
    for file in files:
        for path in {file, file.resolve(), Path(str(file.resolve()).removeprefix("/usr"))}:
            owner = subprocess.run(["dpkg", "-S", str(path)], capture_output=True, text=True, check=False).stdout
            if owner:
                packages.setdefault(owner.partition(": ")[0].partition(",")[0], []).append(file)
                break
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for package, its_files in sorted(packages.items()):
        name = package.partition(":")[0]
        (folder / name).write_bytes(subprocess.run(["dpkg", "-s", package], capture_output=True, check=True).stdout)
        sums = subprocess.run(["md5sum", *sorted(map(str, its_files))], capture_output=True, text=True, check=True).stdout
        (folder / f"{name}.md5sums").write_text(sums.replace("  /", "  "))
        licence = Path(f"/usr/share/doc/{name}/copyright")
        if licence.is_file():
            copy(licence, root)


def main(app: Path, root: Path) -> None:
    """Fill root."""
    for link in ("lib", "lib64"):
        if (source := Path("/", link)).is_symlink():
            (root / link).symlink_to(source.readlink())
            (root / link).resolve().mkdir(parents=True, exist_ok=True)
    python, standard = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    shutil.copytree(standard, root / standard.relative_to("/"), ignore=shutil.ignore_patterns(*LEFT_OUT), ignore_dangling_symlinks=True)
    copy(python, root)
    command = root / "usr/bin/python3"
    command.parent.mkdir(parents=True, exist_ok=True)
    if not command.exists():
        command.symlink_to(python)
    binaries = [python, *(root / standard.relative_to("/")).rglob("*.so"), *app.rglob("*.so"), *app.rglob("*.so.*")]
    needed = {path for path in libraries(binaries) if not path.is_relative_to(app) and not path.is_relative_to(root)}
    for library in needed:
        copy(library, root)
    copy(CERTIFICATES, root)
    copy(LIBRARY_CACHE, root)
    for name, content in ACCOUNTS.items():
        (root / name).write_text(content)
    note_packages({python, CERTIFICATES, *needed}, root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
