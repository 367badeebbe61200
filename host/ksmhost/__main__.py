# SPDX-License-Identifier: Apache-2.0
"""`python -m ksmhost`: the command line."""

from ksmhost.cli import main

main()
