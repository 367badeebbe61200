# SPDX-License-Identifier: Apache-2.0
"""What only hardware can show, shown: `ksmhost doctor` of a board.

`table.STEPS` are the steps, one module each; `walk` takes them one after the other, each with a
deadline of its own, and has each leave the board as it was; `page` renders what came of it.
"""
