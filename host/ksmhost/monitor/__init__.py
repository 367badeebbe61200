# SPDX-License-Identifier: Apache-2.0
"""The monitor: a board's figures, live, as a terminal UI or as text for pipes.

`ksmhost.monitor.app` is the terminal UI (it loads Textual, so import it only to show it),
`ksmhost.monitor.output` writes plain text, JSON lines and CSV.
"""
