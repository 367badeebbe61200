# SPDX-License-Identifier: Apache-2.0
"""Group 64 for smpclient: the host's own message classes, told which answer belongs to which."""

from __future__ import annotations

from enum import IntEnum

import smp.error as smperr
import smp.message as smpmsg

from ksmhost.link import messages as msg


class Errno(IntEnum):
    """The errno values tests meet; group 64's codes are Linux's."""

    ENOENT = 2
    EACCES = 13
    EBUSY = 16
    EINVAL = 22
    ERANGE = 34
    EMSGSIZE = 90
    ESTALE = 116


class ErrorV1(smperr.ErrorV1):
    """An error in the shape of SMP version 1."""

    _GROUP_ID = msg.GROUP


class ErrorV2(smperr.ErrorV2[Errno]):
    """An error in the shape of SMP version 2."""

    _GROUP_ID = msg.GROUP


class Identity(msg.IdentityRequest):
    _Response, _ErrorV1, _ErrorV2 = msg.IdentityAnswer, ErrorV1, ErrorV2


class SamplingRead(msg.SamplingRead):
    _Response, _ErrorV1, _ErrorV2 = msg.SamplingAnswer, ErrorV1, ErrorV2


class SamplingWritten(msg.SamplingAnswer):
    _OP = smpmsg.WriteResponse._OP


class SamplingWrite(msg.SamplingWrite):
    _Response, _ErrorV1, _ErrorV2 = SamplingWritten, ErrorV1, ErrorV2


class Samples(msg.SamplesRead):
    _Response, _ErrorV1, _ErrorV2 = msg.SamplesAnswer, ErrorV1, ErrorV2


class Workloads(msg.WorkloadsRead):
    _Response, _ErrorV1, _ErrorV2 = msg.WorkloadsAnswer, ErrorV1, ErrorV2


class Knobs(msg.KnobsRead):
    _Response, _ErrorV1, _ErrorV2 = msg.KnobsAnswer, ErrorV1, ErrorV2
