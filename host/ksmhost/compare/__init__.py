# SPDX-License-Identifier: Apache-2.0
"""Is B better or worse than A: rounds of both, statistics, and a verdict. See docs/COMPARE.md.

`statistics` decides from numbers alone; `effects` is what counts as a difference; `metrics` draws
the numbers from runs, and `troubles` what went wrong in them; `sides` is what the user called A and
B; `rounds` measures both in turns on boards that `boards` starts; `verdict` brings them together;
`history` looks along stored runs.
"""
