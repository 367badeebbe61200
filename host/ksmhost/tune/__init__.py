# SPDX-License-Identifier: Apache-2.0
"""Tuning: searches the knobs on a live board, in closed loop, for memory saved and CPU spent.

`space` says what may be tried, `trial` tries one setting on the board, `score` makes two numbers of
it, `study` keeps them (Optuna) and says what to try next, `search` is the loop around all of it,
`front` draws the conclusion. Optuna is loaded by `study` alone.
"""
