# SPDX-License-Identifier: Apache-2.0
"""SCons tool for the board agent: `firmware/agent` and its codec out of `firmware/proto`.

Adds to an environment

    env.Agent(build_dir, arch, musl_root)   static, for a board: [agent, agent.debug]
    env.AgentNative(build_dir, sanitize)    for this machine, with glibc: what tests talk to
    env.AgentFuzz(build_dir)                the fuzzer of the agent's parsers
    env.AgentLibFuzzer(build_dir)           the same with clang's libFuzzer
    env.AgentCommands(build_dir)            how each file of env.Agent is compiled, for editors

`arch` is "arm64" or "um" (x86-64); `musl_root` is where Debian's musl-dev of that architecture is
unpacked (it holds `usr/include` and `usr/lib`); env["MUSL_STAMP"], when set, is what unpacks it.
The codec is generated with zcbor, which lives in a venv of its own (`ZCBOR_VENV`), since it wants
another cbor2 than the host tool. Nothing here depends on the clock or on where the tree lies: equal
sources give equal files.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from SCons.Script import Action

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
    "stat-show-request",
    "settings-read-request",
    "settings-write-request",
    "shell-exec-request",
    "sampling-request",
    "samples-request",
    "workload-start-request",
    "workload-stop-request",
    "workload-status-request",
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
]

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
    for source in codec:
        builder = encoder if Path(str(source)).name == "zcbor_encode.c" else generated
        compiled.append(builder.Object(target(source), source)[0])
    return compiled


def _base(env: Any, build_dir: Any) -> Any:
    """What all ways to compile the agent have in common."""
    top = env.Dir("#").abspath
    base = env.Clone()
    base.Replace(CPPDEFINES=["_GNU_SOURCE"], CPPPATH=[AGENT_DIR, build_dir.Dir("codec")])
    base.Replace(CCFLAGS=["-std=c11", "-g", "-ffunction-sections", "-fdata-sections"])
    base.Append(CCFLAGS=[f"-ffile-prefix-map={build_dir.path}=build", f"-ffile-prefix-map={top}=."])
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
    return _fuzzer(env, native, build_dir, "libfuzzer")


def generate(env: Any) -> None:
    """Add the pseudo-builders; a C compiler's tools too, where there are none yet."""
    if "CCCOM" not in env:
        env.Tool("gcc")
    if "LINKCOM" not in env:
        env.Tool("gnulink")
    env.SetDefault(ZCBOR_VENV="#build/venv-zcbor")
    env["AGENT_OBJECTS"] = {}
    env.AddMethod(agent, "Agent")
    env.AddMethod(agent_commands, "AgentCommands")
    env.AddMethod(agent_native, "AgentNative")
    env.AddMethod(agent_fuzz, "AgentFuzz")
    env.AddMethod(agent_libfuzzer, "AgentLibFuzzer")


def exists(env: Any) -> bool:
    """Whether there is a compiler for this machine; cross compilers are looked for in use."""
    return bool(env.WhereIs("gcc"))
