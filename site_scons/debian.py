#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian packages as dependencies of the build, fetched without touching the system.

The build takes things from Debian that need not, or cannot, be installed on the machine that
builds: libraries and programs for another architecture, U-Boot's source, the Raspberry Pi's
firmware. This module gives apt a private root (sources, lists, cache) below the build folder, so
neither the system's sources nor its list of architectures change. The mirror is the one the system
itself uses; signatures are checked with Debian's own keyring.

What was fetched is recorded, with version and hash, in `lock.json`; as long as the recorded files
are there, nothing asks the network. Standard library only: the system's python3 of Debian 12 and
13 runs it, also as a program:

    python3 site_scons/debian.py --root build/apt download --arch arm64 musl-dev
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

ARCHITECTURES = ("amd64", "arm64")
ARCHITECTURE_OF = {"arm64": "arm64", "um": "amd64"}
"""Debian's name of what a board's `arch` runs."""


@dataclass(frozen=True)
class Suite:
    """A suite of Debian's and what of it is looked at."""

    name: str
    components: str
    sources: bool = True
    """Whether source packages are, too."""


STABLE = Suite("trixie", "main non-free-firmware")
"""What everything comes from, unless there is a reason."""
FIRMWARE = Suite("sid", "non-free-firmware", sources=False)
"""The Raspberry Pi's firmware: stable's is of the year of its release, and boards are newer."""


@dataclass(frozen=True)
class Pin:
    """The version of a package that the build was tried with, and the hash of its file."""

    version: str
    sha256: str


TRUST = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
"""What vouches for the archive: Debian's own keyring, as an option of sources.list."""
HELPER = Path("/usr/lib/apt/apt-helper")

NOT_NEEDED_AT_RUN_TIME = frozenset(
    {"debconf", "dpkg", "install-info", "init-system-helpers", "media-types", "netbase", "tzdata"}
)
"""Dependencies that serve installing or administering a system, not running a program from it."""

_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages"; ShortDescription "Packages"; Description "Packages $(ARCHITECTURE)";
  Optional "0";
}};
Acquire::IndexTargets::deb-src::Sources {{
  MetaKey "$(COMPONENT)/source/Sources";
  flatMetaKey "Sources"; ShortDescription "Sources"; Description "Sources";
  Optional "0";
}};
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
APT::Architectures {{ {architectures} }};
Dir::State::lists "{root}/lists/";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Cache "{root}/cache/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
"""


class FetchError(RuntimeError):
    """A package could not be had; the message is one sentence for the user."""


@dataclass(frozen=True)
class Fetched:
    """One file from the archive, as the lock file records it."""

    name: str
    version: str
    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Uri:
    """One line of apt's `--print-uris`."""

    uri: str
    file: str
    size_bytes: int
    sha256: str


def parse_uris(text: str) -> list[Uri]:
    """Reads the output of `apt-get --print-uris`; lines that are not URIs are skipped.

    >>> parse_uris("'http://m/p/a_1%253a2_all.deb' a_1%3a2_all.deb 12 SHA256:ab")[0].file
    'a_1%3a2_all.deb'
    """
    pattern = re.compile(r"^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]+)\s*$", re.MULTILINE)
    return [Uri(m[1], m[2], int(m[3]), m[4]) for m in pattern.finditer(text)]


def parse_mirror(text: str) -> str | None:
    """Picks the mirror of the main suite from lines of `URI CODENAME`.

    A main suite's code name is one word; `-security`, `-updates` and the like are not it. Newer
    suites of the system come last in no particular order, so the first match serves.
    """
    for line in text.splitlines():
        uri, _, codename = line.strip().partition(" ")
        if uri and re.fullmatch(r"[a-z]+", codename):
            return uri
    return None


def parse_stanzas(text: str) -> list[dict[str, str]]:
    """Splits Debian control data into stanzas of field -> value (folded lines joined)."""
    stanzas = []
    for block in re.split(r"\n\s*\n", text.strip()):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1].isspace() and key:
                fields[key] += "\n" + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            stanzas.append(fields)
    return stanzas


def parse_depends(value: str) -> list[list[str]]:
    """The package names of a Depends field: a list of alternatives for each dependency.

    >>> parse_depends("libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0, python3:any")
    [['libc6'], ['debconf', 'debconf-2.0'], ['python3']]
    """
    return [
        [
            re.split(r"[\s(:\[]", alternative.strip(), maxsplit=1)[0]
            for alternative in term.split("|")
        ]
        for term in value.split(",")
        if term.strip()
    ]


def system_mirror() -> str:
    """The URI from which the system itself installs Debian's main suite."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"]
    text = _run([*command, "Created-By: Packages", "Origin: Debian"], "asking apt for its mirror")
    mirror = parse_mirror(text)
    if mirror is None:
        raise FetchError(
            "apt knows no mirror of Debian's main suite: check the system's sources and run "
            "'apt-get update' once."
        )
    return mirror


def unpack(deb: Path, into: Path) -> None:
    """Unpacks a package's files below `into`, which is made if need be."""
    into.mkdir(parents=True, exist_ok=True)
    _run(["dpkg-deb", "-x", str(deb), str(into)], f"unpacking {deb.name}")


def differs(fetched: Fetched, pin: Pin) -> str:
    """One sentence where what was fetched is not what is pinned; empty where it is.

    Raises FetchError for a file that has the pinned version and is another one.
    """
    if fetched.version != pin.version:
        return (
            f"{fetched.name} is {fetched.version}, not the {pin.version} that was tried: "
            "the suite it comes from keeps one version only."
        )
    if fetched.sha256 != pin.sha256:
        raise FetchError(
            f"{fetched.file} has the hash {fetched.sha256}, but {pin.version} is known to have "
            f"{pin.sha256}: do not use it."
        )
    return ""


class Archive:
    """Debian's archive, seen through a private apt root at `root`.

    Several processes may use one root: what changes it holds a lock on it.
    """

    def __init__(self, root: Path, suite: Suite = STABLE) -> None:
        self.root = root.absolute()
        self.suite = suite
        self._locked = False
        self._shown: dict[tuple[str, str], dict[str, str]] = {}

    def __str__(self) -> str:
        return f"Debian {self.suite.name}"

    def update(self) -> None:
        """Fetches the package lists anew, from the mirror the system uses."""
        with self._lock():
            self._configure()
            self._apt(["apt-get", "update"], f"fetching the package lists of {self}")
            self._shown.clear()
            self._stamp.touch()

    def download(self, packages: Sequence[str], arch: str) -> list[Path]:
        """Fetches packages (no dependencies) and returns their files, in the order asked."""
        with self._lock():
            known = self._recorded("packages")
            missing = [name for name in packages if not self._usable(known.get(f"{name}:{arch}"))]
            if missing:
                self._fetch_packages(missing, arch)
                known = self._recorded("packages")
            return [self._files / known[f"{name}:{arch}"].file for name in packages]

    def closure(
        self,
        packages: Sequence[str],
        arch: str,
        exclude: frozenset[str] = NOT_NEEDED_AT_RUN_TIME,
    ) -> list[str]:
        """The packages and all they need at run time, sorted; `exclude` is left out."""
        key = f"{arch}: {' '.join(sorted(packages))} without {' '.join(sorted(exclude))}"
        with self._lock():
            closures: dict[str, list[str]] = self._read_lock_file().get("closures", {})
            if key not in closures:
                closures = {**closures, key: self._resolve(packages, arch, exclude)}
                self._write_lock_file("closures", closures)
            return closures[key]

    def source(self, package: str, version_prefix: str) -> list[Path]:
        """Fetches a source package's tarballs (upstream's and Debian's), not its .dsc.

        The hashes come from the signed index, so the .dsc has nothing to add. A version that does
        not start with `version_prefix` is refused: what builds on it expects another.
        """
        with self._lock():
            names = self._source_names(package, version_prefix)
            if not names:
                self._fetch_source(package, version_prefix)
                names = self._source_names(package, version_prefix)
            return [self._files / name for name in names]

    def resolved(self) -> dict[str, str]:
        """Version of everything fetched so far, by `package:arch` or source file name."""
        recorded = {**self._recorded("packages"), **self._recorded("sources")}
        return {key: item.version for key, item in sorted(recorded.items())}

    def resolved_file(self, package: str, arch: str) -> Fetched:
        """What was fetched of a package: its version, its file, its hash."""
        return self._recorded("packages")[f"{package}:{arch}"]

    # -- apt ------------------------------------------------------------------------------------

    @property
    def _files(self) -> Path:
        return self.root / "files"

    @property
    def _stamp(self) -> Path:
        return self.root / "lists.stamp"

    def _configure(self) -> None:
        for folder in ("lists/partial", "cache/archives/partial", "files"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        architectures = " ".join(f'"{arch}";' for arch in ARCHITECTURES)
        text = _CONFIGURATION.format(root=self.root, architectures=architectures)
        if os.geteuid() == 0:
            text += 'APT::Sandbox::User "root";\n'
        (self.root / "apt.conf").write_text(text)
        mirror = system_mirror()
        kinds = {f"deb [arch={','.join(ARCHITECTURES)} {TRUST}]": self.suite.components}
        if self.suite.sources:
            kinds[f"deb-src [{TRUST}]"] = "main"
        lines = (f"{kind} {mirror} {self.suite.name} {part}\n" for kind, part in kinds.items())
        (self.root / "sources.list").write_text("".join(lines))

    def _ensure_lists(self) -> None:
        if not self._stamp.exists():
            self.update()

    def _apt(self, command: Sequence[str], doing: str, arch: str = "") -> str:
        """Runs a program of apt's on the private root, as on a system of architecture `arch`.

        Packages for all architectures exist only for the native one, so `arch` is made native.
        """
        program, *arguments = command
        options = ["-q", "-c", str(self.root / "apt.conf")]
        if arch:
            options += ["-o", f"APT::Architecture={arch}"]
            options += ["-o", f"Dir::Cache::pkgcache=pkgcache-{arch}.bin"]
        return _run([program, *options, *arguments], doing)

    def _uris(self, arguments: Sequence[str], doing: str, arch: str = "") -> list[Uri]:
        self._ensure_lists()
        return parse_uris(self._apt(["apt-get", *arguments, "--print-uris"], doing, arch))

    def _fetch(self, uris: Sequence[Uri]) -> None:
        """Downloads files by URI into `files/`, each checked against its hash."""
        for uri in uris:
            target = self._files / uri.file
            if target.exists() and _sha256(target) == uri.sha256:
                continue
            partial = target.with_name(target.name + ".part")
            words = ["download-file", uri.uri, str(partial), f"SHA256:{uri.sha256}"]
            self._apt([str(HELPER), *words], f"downloading {unquote(uri.file)}")
            if partial.is_symlink():  # from a mirror on this machine apt only makes a link
                shutil.copyfile(partial, target)
                partial.unlink()
            else:
                partial.rename(target)

    # -- packages -------------------------------------------------------------------------------

    def _fetch_packages(self, packages: Sequence[str], arch: str) -> None:
        try:
            self._fetch_packages_once(packages, arch)
        except FetchError:
            # Lists age: the mirror drops a version when the next one comes.
            if not self._lists_are_old():
                raise
            self.update()
            self._fetch_packages_once(packages, arch)

    def _fetch_packages_once(self, packages: Sequence[str], arch: str) -> None:
        self._ensure_lists()
        stanzas = self._show(packages, arch)
        self._check_known(packages, stanzas, arch)
        uris = self._uris(["download", *packages], f"looking up {' '.join(packages)}", arch)
        by_name = {unquote(uri.file).partition("_")[0]: uri for uri in uris}
        self._check_known(packages, by_name, arch)
        self._fetch(uris)
        self._record(
            "packages",
            {
                f"{name}:{arch}": _fetched(name, stanzas[name]["Version"], by_name[name])
                for name in packages
            },
        )

    def _show(self, packages: Sequence[str], arch: str) -> dict[str, dict[str, str]]:
        """Control data of the packages apt knows, by name; the unknown are simply absent."""
        unseen = [name for name in packages if (arch, name) not in self._shown]
        if unseen:
            found = {s["Package"]: s for s in self._ask(unseen, arch)}
            self._shown.update({(arch, name): found.get(name, {}) for name in unseen})
        shown = {name: self._shown[arch, name] for name in packages}
        return {name: stanza for name, stanza in shown.items() if stanza}

    def _ask(self, packages: Sequence[str], arch: str) -> list[dict[str, str]]:
        command = ["apt-cache", "show", "--no-all-versions", *packages]
        try:
            return parse_stanzas(self._apt(command, "looking up packages", arch))
        except FetchError:
            # One unknown name fails them all: ask for each.
            if len(packages) == 1:
                return []
            return [stanza for name in packages for stanza in self._ask([name], arch)]

    def _check_known(self, packages: Sequence[str], known: Mapping[str, object], arch: str) -> None:
        unknown = [name for name in packages if name not in known]
        if unknown:
            raise FetchError(f"{self} has no package {', '.join(unknown)} for {arch}.")

    def _lists_are_old(self) -> bool:
        lists = [path.stat().st_mtime for path in (self.root / "lists").glob("*Packages*")]
        return bool(lists) and self._stamp.stat().st_mtime + 3600 < time.time()

    def _resolve(self, packages: Sequence[str], arch: str, exclude: frozenset[str]) -> list[str]:
        self._ensure_lists()
        found: set[str] = set()
        wanted = list(packages)
        while wanted:
            stanzas = self._show(wanted, arch)
            self._check_known(wanted, stanzas, arch)
            found.update(wanted)
            terms = [term for s in stanzas.values() for term in _run_time_depends(s)]
            wanted = self._choose(terms, arch, found | exclude)
        return sorted(found)

    def _choose(
        self, terms: Sequence[Sequence[str]], arch: str, settled: frozenset[str] | set[str]
    ) -> list[str]:
        """For each dependency not settled yet, the first alternative that is a real package."""
        open_terms = [term for term in terms if not settled.intersection(term)]
        names = sorted({name for term in open_terms for name in term})
        known = self._show(names, arch) if names else {}
        chosen = (next((n for n in term if n in known), term[0]) for term in open_terms)
        return sorted(set(chosen))

    # -- sources --------------------------------------------------------------------------------

    def _fetch_source(self, package: str, version_prefix: str) -> None:
        uris = self._uris(
            ["source", "--only-source", package], f"looking up the source of {package}"
        )
        dsc = next((unquote(u.file) for u in uris if u.file.endswith(".dsc")), "")
        version = dsc.removesuffix(".dsc").partition("_")[2]
        if not version.startswith(version_prefix):
            raise FetchError(
                f"{self} has {package} {version or 'in no version'}, but the build "
                f"expects {version_prefix}."
            )
        tarballs = [u for u in uris if re.search(r"\.(orig(-\w+)?|debian)\.tar\.\w+$", u.file)]
        self._fetch(tarballs)
        self._record("sources", {u.file: _fetched(package, version, u) for u in tarballs})

    def _source_names(self, package: str, version_prefix: str) -> list[str]:
        items = [
            item
            for item in self._recorded("sources").values()
            if item.name == package and item.version.startswith(version_prefix)
        ]
        newest = max((item.version for item in items), default="")
        chosen = [item for item in items if item.version == newest]
        upstream_first = sorted(chosen, key=lambda item: (".orig" not in item.file, item.file))
        usable = all(self._usable(item) for item in chosen)
        return [item.file for item in upstream_first] if usable else []

    # -- the lock file --------------------------------------------------------------------------

    @property
    def _lock_file(self) -> Path:
        return self.root / "lock.json"

    def _read_lock_file(self) -> dict[str, dict[str, list[str]]]:
        try:
            data = json.loads(self._lock_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return data if isinstance(data, dict) else {}

    def _write_lock_file(self, section: str, content: Mapping[str, object]) -> None:
        data = {**self._read_lock_file(), section: content}
        partial = self._lock_file.with_suffix(".part")
        partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
        partial.rename(self._lock_file)

    def _recorded(self, section: str) -> dict[str, Fetched]:
        data: Mapping[str, object] = self._read_lock_file().get(section, {})
        return {k: Fetched(**v) for k, v in data.items() if isinstance(v, dict)}

    def _record(self, section: str, items: Mapping[str, Fetched]) -> None:
        merged = {**self._recorded(section), **items}
        self._write_lock_file(section, {key: asdict(item) for key, item in merged.items()})

    def _usable(self, item: Fetched | None) -> bool:
        if item is None:
            return False
        path = self._files / item.file
        return path.exists() and path.stat().st_size == item.size_bytes

    @contextmanager
    def _lock(self) -> Iterator[None]:
        if self._locked:
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._locked = True
            try:
                yield
            finally:
                self._locked = False


def _fetched(name: str, version: str, uri: Uri) -> Fetched:
    return Fetched(name, version, uri.file, uri.size_bytes, uri.sha256)


def _run_time_depends(stanza: Mapping[str, str]) -> list[list[str]]:
    fields = (stanza.get("Pre-Depends", ""), stanza.get("Depends", ""))
    return [term for field in fields for term in parse_depends(field.replace("\n", " "))]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _run(command: Sequence[str], doing: str) -> str:
    """Runs a program and returns its output; what went wrong becomes one sentence."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, errors="replace"
        )
    except FileNotFoundError:
        raise FetchError(f"{doing}: {command[0]} is missing; is this a Debian system?") from None
    if done.returncode != 0:
        raise FetchError(f"{doing} failed: {_reason(done.stderr, done.stdout)}.")
    return done.stdout


def _reason(stderr: str, stdout: str) -> str:
    """The most telling line of apt's complaint."""
    lines = [line.strip() for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Err:", "W: Failed", "dpkg"))]
    text = (errors or lines or ["no reason given"])[0]
    hopeless = ("Temporary failure resolving", "Could not connect", "Could not resolve")
    if any(word in stderr + stdout for word in hopeless):
        return "the mirror cannot be reached (" + text.removeprefix("E: ").rstrip(".") + ")"
    if "NO_PUBKEY" in stderr:
        return "the keyring is too old, upgrade the package debian-archive-keyring"
    return text.removeprefix("E: ").rstrip(".")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Debian packages as dependencies of the build.")
    parser.add_argument("--root", type=Path, default=Path("build/apt"), help="private apt root")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("update", help="fetch the package lists anew")
    for verb in ("download", "closure"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--arch", required=True, choices=ARCHITECTURES)
        sub.add_argument("packages", nargs="+")
    sub = verbs.add_parser("source")
    sub.add_argument("package")
    sub.add_argument("version_prefix", nargs="?", default="")
    sub = verbs.add_parser("unpack", help="download and unpack")
    sub.add_argument("--arch", required=True, choices=ARCHITECTURES)
    sub.add_argument("--into", type=Path, required=True)
    sub.add_argument("packages", nargs="+")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: prints one path or package a line."""
    options = _arguments(argv)
    archive = Archive(options.root)
    results: Sequence[object] = []
    try:
        if options.verb == "update":
            archive.update()
        elif options.verb == "closure":
            results = archive.closure(options.packages, options.arch)
        elif options.verb == "source":
            results = archive.source(options.package, options.version_prefix)
        else:
            results = archive.download(options.packages, options.arch)
        for deb in results if options.verb == "unpack" else ():
            unpack(Path(str(deb)), options.into)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
