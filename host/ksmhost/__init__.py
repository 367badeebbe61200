# SPDX-License-Identifier: Apache-2.0
"""ksmhost: build, run, flash, watch and measure small ARM Linux boards that merge memory."""

__version__ = "0.1.0"
