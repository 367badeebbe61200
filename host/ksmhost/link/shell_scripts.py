# SPDX-License-Identifier: Apache-2.0
"""What an agentless session types: small POSIX shell functions, without any other program.

Every line stays under 500 characters: small shells' line editors hold 1024.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTERS = frozenset(
    (
        "full_scans",
        "general_profit",
        "ksm_zero_pages",
        "ksmd_wakeups",
        "metadata_bytes",
        "pages_cleaned",
        "pages_rewritten",
        "pages_scanned",
        "pages_shared",
        "pages_sharing",
        "pages_skipped",
        "pages_unshared",
        "pages_volatile",
        "stable_node_chains",
        "stable_node_dups",
    )
)
"""The files of the KSM directory that are counters; whatever else is there is a knob."""

_MEMINFO = {
    "MemTotal": "mem_total_kib",
    "MemFree": "mem_free_kib",
    "MemAvailable": "mem_available_kib",
    "AnonPages": "anon_pages_kib",
    "SwapFree": "swap_free_kib",
}
_CPU = "devices/system/cpu"
_VMSTAT = ("cow_ksm", "ksm_swpin_copy", "pgfault", "pgmajfault", "thp_split_page")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the board keeps what we read; other places serve tests."""

    ksm: str = "/sys/kernel/mm/ksm"
    proc: str = "/proc"
    sys: str = "/sys"


def functions(folders: Folders) -> dict[str, str]:
    """Name and definition of each function."""
    ksm, proc, sys = folders.ksm, folders.proc, folders.sys
    ksmd = f'for d in {proc}/[0-9]*;do n=;read -r n<$d/comm;[ "$n" = ksmd ]&&break;done'
    memory = "".join(f'{word}:)echo "{name} $v";;' for word, name in _MEMINFO.items())
    return {
        "_kf": f'_kf(){{ for f in {ksm}/*;do v=;read -r v<$f;echo "${{f##*/}} $v";done; }}',
        "_kd": f'_kd(){{ {ksmd};[ "$n" = ksmd ]&&read -r l<$d/stat&&echo "stat $l"; }}',
        "_km": f"_km(){{ while read -r k v u;do case $k in {memory}esac;done<{proc}/meminfo; }}",
        "_kv": f"_kv(){{ while read -r k v;do case $k in {'|'.join(_VMSTAT)})"
        f'echo "$k $v";;esac;done<{proc}/vmstat; }}',
        "_kb": f'_kb(){{ read -r u i<{proc}/uptime;echo "uptime $u";read -r l i<{proc}/loadavg;'
        f'echo "load $l";read -r l<{proc}/stat;echo "$l"; }}',
        "_kc": f"_kc(){{ {_number('temperature_mc', f'{sys}/class/thermal/thermal_zone0/temp')};"
        f"{_number('cpu_khz', f'{sys}/{_CPU}/cpu0/cpufreq/scaling_cur_freq')}; }}",
        "_kt": "_kt(){ echo throttled $(vcgencmd get_throttled 2>/dev/null);"
        "echo clock $(vcgencmd measure_clock arm 2>/dev/null); }",
    }


def _number(name: str, path: str) -> str:
    """Prints a file's one line after a name, where there is such a file."""
    return f"[ -r {path} ]&&read -r v<{path}&&echo {name} $v"


def identity_lines(folders: Folders) -> tuple[str, ...]:
    """Commands that print `name value` lines about who the board is."""
    proc = folders.proc
    return (
        "echo kernel $(uname -r)",
        f"read -r b<{proc}/sys/kernel/random/boot_id;echo boot_id $b",
        f"[ -r {proc}/device-tree/model ]&&read -r m<{proc}/device-tree/model;echo model $m",
        "echo page_size $(getconf PAGESIZE 2>/dev/null||echo 4096)",
        f'c=0;while read -r k v;do [ "$k" = processor ]&&c=$((c+1));done<{proc}/cpuinfo;'
        "echo cpus $c",
        f"read -r u i<{proc}/uptime;echo uptime $u",
        f"read -r k v u<{proc}/meminfo;echo mem_kib $v",
        f"[ -e {folders.ksm}/max_kernel_pages ]&&echo engine ksmhost||"
        f"{{ [ -d {folders.ksm} ]&&echo engine mainline||echo engine none; }}",
        f"echo notes $(od -An -v -tx1 {folders.sys}/kernel/notes 2>/dev/null)",
        f"echo revision $(od -An -v -tx1 {proc}/device-tree/system/linux,revision 2>/dev/null)",
        _number("governor", f"{folders.sys}/{_CPU}/cpu0/cpufreq/scaling_governor"),
        _number("meltdown", f"{folders.sys}/{_CPU}/vulnerabilities/meltdown"),
    )


def write_knob(folders: Folders, name: str, quoted: str) -> str:
    """A command that writes a knob; its output names what went wrong."""
    path = f"{folders.ksm}/{name}"
    return (
        f"if [ -e {path} ];then printf '%s\\n' {quoted} 2>&1 >{path};"
        f"else echo No such file or directory;false;fi 2>&1"
    )


def write_knob_by_tee(folders: Folders, name: str, quoted: str) -> str:
    """The same with `tee`, whose message has the errno that some shells keep to themselves."""
    return f"printf '%s\\n' {quoted}|tee {folders.ksm}/{name} 2>&1 >/dev/null|{{ ! grep . ; }}"
