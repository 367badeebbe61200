# SPDX-License-Identifier: Apache-2.0
"""A board's image replaced over its line: plan, send, verify, try, confirm.

Data flows one way: `image` reads what is to be sent, `plan` decides how, `stream` is what goes over
the line, `transfer` brings it there, `update` tries and confirms it.
"""
