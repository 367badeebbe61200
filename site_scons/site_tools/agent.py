# SPDX-License-Identifier: Apache-2.0
"""SCons tool for the board agent: `firmware/agent` and its codec out of `firmware/proto`.

Adds to an environment

    env.Agent(build_dir, arch, musl_root)   static, for a board: [agent, agent.debug]
    env.AgentNative(build_dir, sanitize)    for this machine, with glibc: what tests talk to
    env.AgentFuzz(build_dir)                the fuzzer of the agent's parsers
    env.AgentLibFuzzer(build_dir)           the same with clang's libFuzzer
    env.AgentCommands(build_dir)            how each file of env.Agent is compiled, for editors

What the agent takes from libsodium (SHA-256, ed25519) and zstd (the decoder) is compiled into it
from Debian's source packages.

`arch` is "arm64" or "um" (x86-64); `musl_root` is where Debian's musl-dev of that architecture is
unpacked (it holds `usr/include` and `usr/lib`); env["MUSL_STAMP"], when set, is what unpacks it.
The codec is generated with zcbor, which lives in a venv of its own (`ZCBOR_VENV`), since it wants
another cbor2 than the host tool. Nothing here depends on the clock or on where the tree lies: equal
sources give equal files.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SCons.Script import Action

import sourcepackage

AGENT_DIR = "#firmware/agent"
FUZZ_DIR = "#tests/fuzz"
CDDL = tuple(f"#firmware/proto/{name}.cddl" for name in ("smp", "ksmhost", "image"))

ZCBOR_REQUIREMENTS = ("zcbor==0.9.1", "cbor2~=5.6")
ZCBOR_RUNTIME = ("zcbor_common", "zcbor_decode", "zcbor_encode")
ZCBOR_HEADERS = (
    "zcbor_common.h",
    "zcbor_decode.h",
    "zcbor_encode.h",
    "zcbor_print.h",
    "zcbor_tags.h",
)
CODEC_SOURCES = ("codec_decode", "codec_encode", *ZCBOR_RUNTIME)
CODEC_HEADERS = ("codec_decode.h", "codec_encode.h", "codec_types.h", *ZCBOR_HEADERS)

DECODED = [
    "os-echo-request",
    "os-reset-request",
    "os-info-request",
    "image-state-request",
    "image-upload-request",
    "image-erase-request",
    "stat-show-request",
    "settings-read-request",
    "settings-write-request",
    "shell-exec-request",
    "sampling-request",
    "samples-request",
    "workload-start-request",
    "workload-stop-request",
    "workload-status-request",
    "index-request",
    "update-request",
    "put-request",
    "finish-request",
    "activate-request",
    "line-request",
    "bench-request",
    "watchdog-request",
    "image-info",
    "workload-table",
]
ENCODED = [
    "error-v1",
    "error-v2",
    "empty-response",
    "os-echo-response",
    "os-params-response",
    "os-info-response",
    "os-datetime-response",
    "image-state-response",
    "image-upload-response",
    "stat-show-response",
    "stat-list-response",
    "settings-read-response",
    "shell-exec-response",
    "identity-response",
    "sampling-response",
    "samples-response",
    "workloads-response",
    "workload-status-response",
    "knobs-response",
    "slots-response",
    "index-response",
    "offset-response",
    "finish-response",
    "activate-response",
    "line-response",
    "bench-response",
    "watchdog-response",
]


@dataclass(frozen=True)
class Library:
    """Files of a Debian source package that become part of the agent."""

    package: str
    version: str
    files: tuple[str, ...]
    include: tuple[str, ...]
    """What the agent includes from."""
    own_include: tuple[str, ...] = ()
    """What only its own files include from."""
    defines: tuple[str, ...] = ()


LIBRARIES = (
    Library(
        "libsodium",
        "1.0.18",
        (
            "src/libsodium/crypto_core/ed25519/ref10/ed25519_ref10.c",
            "src/libsodium/crypto_hash/sha256/cp/hash_sha256_cp.c",
            "src/libsodium/crypto_hash/sha512/cp/hash_sha512_cp.c",
            "src/libsodium/crypto_sign/ed25519/ref10/open.c",
            "src/libsodium/crypto_sign/ed25519/ref10/sign.c",
            "src/libsodium/crypto_verify/sodium/verify.c",
            "src/libsodium/sodium/utils.c",
        ),
        include=("src/libsodium/include",),
        own_include=("src/libsodium/include/sodium", "src/libsodium/crypto_sign/ed25519/ref10"),
        defines=("CONFIGURED=1", "HAVE_TI_MODE=1", "NATIVE_LITTLE_ENDIAN=1"),
    ),
    Library(
        "libzstd",
        "1.5.7",
        (
            "lib/common/entropy_common.c",
            "lib/common/error_private.c",
            "lib/common/fse_decompress.c",
            "lib/common/xxhash.c",
            "lib/common/zstd_common.c",
            "lib/decompress/huf_decompress.c",
            "lib/decompress/zstd_ddict.c",
            "lib/decompress/zstd_decompress.c",
            "lib/decompress/zstd_decompress_block.c",
        ),
        include=("lib",),
        defines=(
            "DYNAMIC_BMI2=0",
            "HUF_FORCE_DECOMPRESS_X1",
            "ZSTD_DISABLE_ASM=1",
            "ZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT",
            "ZSTD_LEGACY_SUPPORT=0",
            "ZSTD_NO_TRACE",
            "ZSTD_STRIP_ERROR_STRINGS",
        ),
    ),
)

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wshadow", "-Wconversion"]
# It reads floats through pointers of other types; its warnings are not ours to mend.
GENERATED_FLAGS = ["-w", "-fno-strict-aliasing"]
SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
]

CROSS = {
    "arm64": {
        "prefix": "aarch64-linux-gnu-",
        "triplet": "aarch64-linux-musl",
        "kernel_headers": ["/usr/aarch64-linux-gnu/include"],
        "flags": ["-mno-outline-atomics"],
    },
    "um": {
        "prefix": "",
        "triplet": "x86_64-linux-musl",
        "kernel_headers": ["/usr/include", "/usr/include/x86_64-linux-gnu"],
        "flags": [],
    },
}


def _zcbor(env: Any) -> Any:
    """The zcbor program, in a venv that is made when it is missing."""
    venv = env.Dir(env["ZCBOR_VENV"])
    program = venv.File("bin/zcbor")
    if not program.has_builder() and not program.exists():
        install = [
            [sys.executable, "-m", "venv", "--clear", venv.path],
            [
                f"{venv.path}/bin/pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *ZCBOR_REQUIREMENTS,
            ],
        ]
        env.Command(program, [], Action(install, "VENV  $TARGET"))
        env.NoClean(program)
        env.Precious(program)
    return program


def _zcbor_command(env: Any, program: Any, codec: Any) -> list[list[str]]:
    cddl = [word for path in CDDL for word in ("-c", env.File(path).path)]
    common = [program.path, "code", "-b", "64", "-s", *cddl]
    outputs = ["--oc", f"{codec.path}/codec.c", "--oh", f"{codec.path}/codec.h"]
    return [[*common, "-d", "-e", "-t", *DECODED, *ENCODED, "--copy-sources", *outputs]]


def _codec(env: Any, build_dir: Any) -> list[Any]:
    """Generate the codec into build_dir/codec and return its C files."""
    codec = build_dir.Dir("codec")
    sources = [codec.File(f"{name}.c") for name in CODEC_SOURCES]
    headers = [codec.File(name) for name in CODEC_HEADERS]
    if sources[0].has_builder():
        return sources
    program = _zcbor(env)
    nodes = env.Command(
        sources + headers,
        [env.File(path) for path in CDDL],
        Action(_zcbor_command(env, program, codec), "CODEC  $TARGET"),
    )
    # The program's own content says nothing: it is a stub of the venv. Its version does.
    env.Depends(nodes, env.Value(" ".join(ZCBOR_REQUIREMENTS)))
    env.Requires(nodes, program)
    env.SideEffect(codec.File("zcbor_print.c"), nodes)
    return sources


def _tree(env: Any, library: Library) -> Path:
    return Path(str(env["PROJECT"])) / f"build/src/{library.package}-{library.version}"


def _unpack_library(target: Any, source: Any, env: Any) -> None:
    library = env["LIBRARY"]
    stamp = Path(str(target[0]))
    sourcepackage.prepare(env, library.package, library.version, _tree(env, library), stamp)


def _library_sources(env: Any, library: Library) -> list[Any]:
    """The library's C files; unpacking them is the first use's job."""
    tree = _tree(env, library)
    sources = [env.File(str(tree / name)) for name in library.files]
    if not sources[0].has_builder():
        action = Action(_unpack_library, "SOURCE  $TARGET")
        nodes = env.Command([f"{tree}.stamp", *sources], [], action, LIBRARY=library)
        env.Precious(nodes)
        env.NoClean(nodes)
    return sources


def _includes(env: Any, library: Library, names: tuple[str, ...]) -> list[str]:
    """As system headers: not looked into by SCons, and their warnings are not ours."""
    return [word for name in names for word in ("-isystem", str(_tree(env, library) / name))]


def _library_objects(env: Any, objects: Any, suffix: str) -> Iterator[Any]:
    for library in LIBRARIES:
        own = env.Clone()
        own.Append(CPPDEFINES=list(library.defines))
        own.Append(CCFLAGS=["-w", *_includes(env, library, library.own_include)])
        folder = objects.Dir(library.package)
        for source in _library_sources(env, library):
            yield own.Object(folder.File(Path(str(source)).stem + suffix), source)[0]


def _agent_sources(env: Any) -> list[Any]:
    return sorted(env.Glob(f"{AGENT_DIR}/*.c"), key=str)


def _objects(
    env: Any, build_dir: Any, into: str, sources: list[Any], codec: list[Any], suffix: str = ".o"
) -> list[Any]:
    """Compile the agent's own files strictly and the generated ones as they come."""
    own = env.Clone()
    own.Append(CCFLAGS=WARNINGS)
    generated = env.Clone()
    generated.Append(CCFLAGS=GENERATED_FLAGS)
    # Lists and maps of a length known beforehand are shorter; the decoder stays liberal.
    encoder = generated.Clone()
    encoder.Append(CPPDEFINES=["ZCBOR_CANONICAL"])
    objects = build_dir.Dir(into)

    def target(source: Any) -> Any:
        return objects.File(Path(str(source)).stem + suffix)

    compiled = [own.Object(target(source), source)[0] for source in sources]
    # SCons does not look into system headers, so it does not know that they must be there.
    env.Requires(compiled, [_library_sources(env, library)[0] for library in LIBRARIES])
    for source in codec:
        builder = encoder if Path(str(source)).name == "zcbor_encode.c" else generated
        compiled.append(builder.Object(target(source), source)[0])
    return [*compiled, *_library_objects(env, objects, suffix)]


def _base(env: Any, build_dir: Any) -> Any:
    """What all ways to compile the agent have in common."""
    top = env.Dir("#").abspath
    base = env.Clone()
    base.Replace(CPPDEFINES=["_GNU_SOURCE"], CPPPATH=[AGENT_DIR, build_dir.Dir("codec")])
    base.Replace(CCFLAGS=["-std=c11", "-g", "-ffunction-sections", "-fdata-sections"])
    base.Append(CCFLAGS=[f"-ffile-prefix-map={build_dir.path}=build", f"-ffile-prefix-map={top}=."])
    for library in LIBRARIES:
        base.Append(CCFLAGS=_includes(env, library, library.include))
    base.Replace(LINKFLAGS=["-Wl,--gc-sections"], LIBS=[], CFLAGS=[])
    return base


def _compiler_include(compiler: str) -> str:
    """Where the compiler keeps its own headers (stdarg.h and the like)."""
    result = subprocess.run(
        [compiler, "-print-file-name=include"], capture_output=True, text=True, check=False
    )
    return result.stdout.strip()


def _use_musl(env: Any, arch: str, musl_root: str) -> None:
    """Point the compiler at musl alone; the distribution's headers only fill in linux/*.h."""
    cross = CROSS[arch]
    compiler = f"{cross['prefix']}gcc"
    headers = [
        f"{musl_root}/usr/include/{cross['triplet']}",
        _compiler_include(compiler),
        *cross["kernel_headers"],
    ]
    lib = f"{musl_root}/usr/lib/{cross['triplet']}"
    env.Replace(CC=compiler, STRIP=f"{cross['prefix']}strip", MUSL_LIB=lib)
    env.Append(
        CCFLAGS=[
            "-O2",
            "-fno-pie",
            "-nostdinc",
            *cross["flags"],
            f"-ffile-prefix-map={musl_root}=/musl",
        ]
    )
    env.Append(CCFLAGS=[word for path in headers for word in ("-isystem", path)])
    env.Append(
        LINKFLAGS=[
            "-static",
            "-no-pie",
            "-nostdlib",
            "-Wl,--build-id=sha1",
            "-Wl,-z,max-page-size=4096",
            "-Wl,-z,common-page-size=4096",
        ]
    )
    env.Replace(
        LINKCOM="$LINK -o $TARGET $LINKFLAGS $MUSL_LIB/crt1.o $MUSL_LIB/crti.o $SOURCES "
        "$MUSL_LIB/libc.a -lgcc $MUSL_LIB/libc.a $MUSL_LIB/crtn.o"
    )
    env.Replace(LINK="$CC", PROGSUFFIX="")


def agent(env: Any, build_dir: Any, arch: str, musl_root: str) -> list[Any]:
    """The agent for a board, static against musl: [stripped, with symbols]."""
    build_dir = env.Dir(build_dir)
    musl_root = env.Dir(musl_root).abspath if str(musl_root).startswith("#") else str(musl_root)
    cross = _base(env, build_dir)
    _use_musl(cross, arch, musl_root)
    objects = _objects(
        cross, build_dir, "agent-objects", _agent_sources(env), _codec(env, build_dir)
    )
    env["AGENT_OBJECTS"][build_dir.abspath] = objects
    if stamp := env.get("MUSL_STAMP"):
        env.Depends(objects, stamp)
    debug = cross.Program(build_dir.File("agent.debug"), objects)
    strip = Action("$STRIP -o $TARGET $SOURCE", "STRIP  $TARGET")
    stripped = cross.Command(build_dir.File("agent"), debug, strip)
    return [stripped[0], debug[0]]


def agent_commands(env: Any, build_dir: Any) -> list[dict[str, str]]:
    """Entries of a compile_commands.json for the agent declared with this build_dir."""
    top = env.Dir("#").abspath
    return [
        {
            "directory": top,
            "file": str(node.sources[0]),
            "output": str(node),
            "command": node.get_env().subst("$CCCOM", target=[node], source=node.sources),
        }
        for node in env["AGENT_OBJECTS"].get(env.Dir(build_dir).abspath, [])
    ]


def _native(env: Any, build_dir: Any, sanitize: bool) -> Any:
    native = _base(env, build_dir)
    native.Replace(CC="gcc", LINK="gcc")
    native.Append(CCFLAGS=["-O1"], CPPDEFINES=["RESET_DEFAULT=RESET_EXIT"])
    if sanitize:
        native.Append(CCFLAGS=SANITIZERS, LINKFLAGS=SANITIZERS)
    return native


def agent_native(env: Any, build_dir: Any, sanitize: bool = True) -> list[Any]:
    """The agent for this machine. It never resets the machine it runs on unless told to."""
    build_dir = env.Dir(build_dir)
    native = _native(env, build_dir, sanitize)
    objects = _objects(
        native, build_dir, "native-objects", _agent_sources(env), _codec(env, build_dir)
    )
    return list(native.Program(build_dir.File("ksmhost-agent"), objects))


def _fuzzer(env: Any, native: Any, build_dir: Any, name: str) -> list[Any]:
    """The agent's parts without its line and its start, and what feeds them."""
    sources = [s for s in _agent_sources(env) if Path(str(s)).name not in ("main.c", "init.c")]
    sources += sorted(env.Glob(f"{FUZZ_DIR}/*.c"), key=str)
    objects = _objects(native, build_dir, f"{name}-objects", sources, _codec(env, build_dir))
    return list(native.Program(build_dir.File(f"agent-{name}"), objects))


def agent_fuzz(env: Any, build_dir: Any) -> list[Any]:
    """The fuzzer with a mutating driver of its own."""
    build_dir = env.Dir(build_dir)
    return _fuzzer(env, _native(env, build_dir, sanitize=True), build_dir, "fuzz")


def agent_libfuzzer(env: Any, build_dir: Any) -> list[Any]:
    """The fuzzer driven by libFuzzer, which follows what inputs reach; for a long search."""
    build_dir = env.Dir(build_dir)
    native = _native(env, build_dir, sanitize=True)
    native.Replace(CC="clang", LINK="clang")
    native.Append(CPPDEFINES=["LIBFUZZER"])
    native.Append(CCFLAGS=["-fsanitize=fuzzer"], LINKFLAGS=["-fsanitize=fuzzer"])
    # Its tables refer to every function, so that the linker drops none. What libsodium's need that
    # nobody calls, and is not compiled, ends the program.
    missing = ("randombytes_buf", "sodium_misuse")
    native.Append(LINKFLAGS=[f"-Wl,--defsym={name}=abort" for name in missing])
    return _fuzzer(env, native, build_dir, "libfuzzer")


def generate(env: Any) -> None:
    """Add the pseudo-builders; a C compiler's tools too, where there are none yet."""
    if "CCCOM" not in env:
        env.Tool("gcc")
    if "LINKCOM" not in env:
        env.Tool("gnulink")
    env.SetDefault(ZCBOR_VENV="#build/venv-zcbor")
    env["AGENT_OBJECTS"] = {}
    env["AGENT_SOURCES"] = {library.package: library.version for library in LIBRARIES}
    env.AddMethod(agent, "Agent")
    env.AddMethod(agent_commands, "AgentCommands")
    env.AddMethod(agent_native, "AgentNative")
    env.AddMethod(agent_fuzz, "AgentFuzz")
    env.AddMethod(agent_libfuzzer, "AgentLibFuzzer")


def exists(env: Any) -> bool:
    """Whether there is a compiler for this machine; cross compilers are looked for in use."""
    return bool(env.WhereIs("gcc"))
