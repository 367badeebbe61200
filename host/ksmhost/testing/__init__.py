# SPDX-License-Identifier: Apache-2.0
"""A board in tests: what stands behind the fixtures of `ksmhost.pytest_plugin`."""
