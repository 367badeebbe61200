# SPDX-License-Identifier: Apache-2.0
"""Fetching Debian packages: the parsers, and an archive served from this machine by a real apt."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "site_scons"))

import debian

URIS = (
    "Need to get 1 kB of source archives.\n"
    "'http://mirror/u/tool_1.2.orig.tar.xz' tool_1.2.orig.tar.xz 100 SHA256:" + "a" * 64 + "\n"
    "'http://mirror/u/tool_1.2-3.dsc' tool_1.2-3.dsc 10 SHA256:" + "b" * 64 + "\n"
)


def test_uris_are_read_and_chatter_skipped() -> None:
    assert [uri.file for uri in debian.parse_uris(URIS)] == [
        "tool_1.2.orig.tar.xz",
        "tool_1.2-3.dsc",
    ]
    assert debian.parse_uris(URIS)[0].size_bytes == 100


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("http://a/security bookworm-security\nhttp://a/debian/ bookworm\n", "http://a/debian/"),
        ("http://b/debian trixie-updates\nhttp://b/debian trixie\n", "http://b/debian"),
        ("http://c/debian trixie-updates\n", None),
        ("", None),
    ],
)
def test_the_mirror_is_the_main_suites(text: str, mirror: str | None) -> None:
    assert debian.parse_mirror(text) == mirror


def test_dependencies_with_versions_alternatives_and_architectures() -> None:
    assert debian.parse_depends("a (>= 1) [arm64], b | c:any (= 2),\n d") == [
        ["a"],
        ["b", "c"],
        ["d"],
    ]


def test_stanzas_join_folded_lines() -> None:
    text = "Package: a\nDescription: one\n two\n\nPackage: b\n"
    assert debian.parse_stanzas(text) == [
        {"Package": "a", "Description": "one\ntwo"},
        {"Package": "b"},
    ]


def make_deb(folder: Path, name: str, depends: str = "") -> Path:
    """A real package with one file in it."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share" / name).write_text(f"file of {name}")
    fields = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@x>\n"
    fields += f"Depends: {depends}\n" if depends else ""
    (root / "DEBIAN/control").write_text(fields + "Description: x\n")
    deb = folder / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(deb)], check=True, capture_output=True)
    return deb


def release(dist: Path, suite: debian.Suite = debian.STABLE) -> str:
    """The Release file of a suite folder."""
    names = [p for p in sorted(dist.rglob("*")) if p.is_file()]
    lines = [
        f" {hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_size} {p.relative_to(dist)}"
        for p in names
    ]
    head = f"Codename: {suite.name}\nDate: Sat, 01 Jan 2025 00:00:00 UTC\n"
    head += "Architectures: amd64 arm64\nComponents: main non-free-firmware\nSHA256:\n"
    return head + "\n".join(lines) + "\n"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A small archive: `program` needs `library` and `debconf`, `library` needs one of two."""
    root = tmp_path / "mirror"
    pool = root / "pool"
    pool.mkdir(parents=True)
    depends = {
        "program": "library (>= 1), debconf | debconf-2.0",
        "library": "absent | base",
        "base": "",
        "debconf": "",
    }
    stanzas = []
    for name, needs in depends.items():
        deb = make_deb(pool, name, needs)
        control = subprocess.run(["dpkg-deb", "-f", str(deb)], capture_output=True, check=True)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        stanzas.append(
            f"{control.stdout.decode()}Filename: pool/{deb.name}\n"
            f"Size: {deb.stat().st_size}\nSHA256: {digest}\n"
        )
    dist = root / "dists" / debian.STABLE.name
    for arch in debian.ARCHITECTURES:
        folder = dist / f"main/binary-{arch}"
        folder.mkdir(parents=True)
        (folder / "Packages").write_text("\n".join(stanzas))
        (dist / f"non-free-firmware/binary-{arch}").mkdir(parents=True)
        (dist / f"non-free-firmware/binary-{arch}/Packages").write_text("")
    (dist / "main/source").mkdir(parents=True)
    (dist / "main/source/Sources").write_text(sources(root))
    (dist / "Release").write_text(release(dist))
    return root


def sources(root: Path) -> str:
    """A source package `tool` 1.2-3 whose .dsc does not exist on the mirror."""
    files = []
    for name in ("tool_1.2.orig.tar.xz", "tool_1.2-3.debian.tar.xz", "tool_1.2-3.dsc"):
        data = f"content of {name}".encode()
        if not name.endswith(".dsc"):
            (root / "pool" / name).write_bytes(data)
        files.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    return (
        "Package: tool\nBinary: tool\nVersion: 1.2-3\nFormat: 3.0 (quilt)\nDirectory: pool\n"
        "Checksums-Sha256:\n" + "\n".join(files) + "\n"
    )


@pytest.fixture
def archive(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], debian.Archive]:
    """Archives whose mirror is the one above; it carries no signature, which apt is told."""
    monkeypatch.setattr(debian, "TRUST", "trusted=yes")
    monkeypatch.setattr(debian, "system_mirror", lambda: f"file://{mirror}")
    return lambda: debian.Archive(tmp_path / "apt")


def test_download_gives_the_files_in_the_order_asked(
    archive: Callable[[], debian.Archive], tmp_path: Path
) -> None:
    debs = archive().download(["program", "base"], "arm64")
    assert [deb.name for deb in debs] == ["program_1.0_all.deb", "base_1.0_all.deb"]
    debian.unpack(debs[0], tmp_path / "out")
    assert (tmp_path / "out/usr/share/program").read_text() == "file of program"
    assert archive().resolved() == {"base:arm64": "1.0", "program:arm64": "1.0"}


def test_what_is_recorded_asks_the_mirror_no_more(
    archive: Callable[[], debian.Archive], mirror: Path
) -> None:
    first = archive().download(["program"], "arm64")
    closure = archive().closure(["program"], "arm64")
    mirror.rename(mirror.with_name("gone"))
    assert archive().download(["program"], "arm64") == first
    assert archive().closure(["program"], "arm64") == closure


def test_a_lost_file_is_fetched_again(archive: Callable[[], debian.Archive]) -> None:
    (deb,) = archive().download(["base"], "amd64")
    deb.unlink()
    assert archive().download(["base"], "amd64") == [deb]
    assert deb.exists()


def test_closure_follows_alternatives_and_leaves_debconf_out(
    archive: Callable[[], debian.Archive],
) -> None:
    assert archive().closure(["program"], "arm64") == ["base", "library", "program"]


def test_source_needs_no_dsc(archive: Callable[[], debian.Archive]) -> None:
    files = archive().source("tool", "1.2")
    assert [file.name for file in files] == ["tool_1.2.orig.tar.xz", "tool_1.2-3.debian.tar.xz"]
    assert archive().source("tool", "1.2") == files


def test_another_suite_has_packages_of_its_own(
    archive: Callable[[], debian.Archive], mirror: Path, tmp_path: Path
) -> None:
    suite = debian.Suite("newest", "non-free-firmware", sources=False)
    dist = mirror / "dists/newest"
    stanzas = (mirror / f"dists/{debian.STABLE.name}/main/binary-arm64/Packages").read_text()
    for arch in debian.ARCHITECTURES:
        folder = dist / f"non-free-firmware/binary-{arch}"
        folder.mkdir(parents=True)
        (folder / "Packages").write_text(stanzas.partition("\n\n")[0] + "\n")
    (dist / "Release").write_text(release(dist, suite))
    newest = debian.Archive(tmp_path / "newest", suite)
    assert [deb.name for deb in newest.download(["program"], "arm64")] == ["program_1.0_all.deb"]
    assert newest.resolved_file("program", "arm64").version == "1.0"
    with pytest.raises(debian.FetchError, match="Debian newest has no package base"):
        newest.download(["base"], "arm64")


def test_a_pinned_version_is_known_by_its_hash() -> None:
    fetched = debian.Fetched("firmware", "1.0", "firmware_1.0_all.deb", 12, "ab")
    assert debian.differs(fetched, debian.Pin("1.0", "ab")) == ""
    assert "is 1.0, not the 0.9 that was tried" in debian.differs(fetched, debian.Pin("0.9", "ab"))
    with pytest.raises(debian.FetchError, match=r"has the hash ab, but 1\.0 is known to have cd"):
        debian.differs(fetched, debian.Pin("1.0", "cd"))


def test_errors_are_one_sentence(archive: Callable[[], debian.Archive], mirror: Path) -> None:
    with pytest.raises(debian.FetchError, match="has no package nothing for arm64"):
        archive().download(["base", "nothing"], "arm64")
    with pytest.raises(debian.FetchError, match=r"1\.2-3, but the build expects 9"):
        archive().source("tool", "9")
    with pytest.raises(debian.FetchError, match="source of nothing"):
        archive().source("nothing", "1")


def test_a_file_that_is_not_what_the_index_says_is_refused(
    archive: Callable[[], debian.Archive], mirror: Path
) -> None:
    (mirror / "pool/base_1.0_all.deb").write_bytes(b"something else")
    with pytest.raises(debian.FetchError, match="downloading base"):
        archive().download(["base"], "arm64")
    assert not list((mirror.parent / "apt/files").glob("*"))


def test_no_mirror_leaves_nothing_that_looks_usable(
    archive: Callable[[], debian.Archive], mirror: Path
) -> None:
    mirror.rename(mirror.with_name("gone"))
    with pytest.raises(debian.FetchError, match="package lists"):
        archive().download(["base"], "arm64")
    mirror.with_name("gone").rename(mirror)
    assert archive().download(["base"], "arm64")


def test_the_command_line(
    archive: Callable[[], debian.Archive], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path / "apt")]
    assert debian.main([*root, "download", "--arch", "arm64", "base"]) == 0
    assert capsys.readouterr().out.endswith("files/base_1.0_all.deb\n")
    assert debian.main([*root, "download", "--arch", "arm64", "nothing"]) == 1
    assert capsys.readouterr().err.startswith("error: Debian ")
