# SPDX-License-Identifier: Apache-2.0
"""The Raspberry Pi before U-Boot: which models there are, and what their boot firmware does."""
