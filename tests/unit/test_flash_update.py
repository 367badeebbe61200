# SPDX-License-Identifier: Apache-2.0
"""An update from plan to confirmation, against a board in memory whose luck is made to order."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from update_images import hash_tlv, make_key, random_bytes, sign

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import kept, survey, trial, update
from ksmhost.flash.image import SlotImage, read_slot_image
from ksmhost.flash.plan import Plan, Tier
from ksmhost.flash.survey import Options
from ksmhost.flash.transfer import Pace
from ksmhost.flash.trial import Patience
from ksmhost.flash.update import Rates
from ksmhost.link import (
    NOWHERE,
    BoardGoneError,
    BootState,
    Identity,
    LineLostError,
    LinkState,
    NoAnswerError,
    RefusedError,
    SlotInfo,
    Slots,
    UpdateInfo,
)
from ksmhost.link.framing import Framing
from ksmhost.link.smp_session import SmpSession

SOON = Patience(trial_s=20.0, silent_s=0.05, boot_s=0.05, look_s=0.001)
SHORT = replace(SOON, trial_s=0.3)
EMPTY = SlotInfo("empty", False, 0, 0, b"", b"", "", "", "")

Boot = Callable[["MemoryBoard"], None]


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, words: str) -> None:
        self.said.append(words)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        pass


class MemoryBoard:
    """Two slots, a boot state, and what happens at the next boots.

    `errors` holds, by method, what its next calls raise; None lets one pass.
    """

    def __init__(self, old: SlotImage, *boots: Boot) -> None:
        self.state = LinkState.CONNECTED
        self.errors: dict[str, list[Exception | None]] = {}
        self.calls: list[str] = []
        self.boots = list(boots)
        self.boot_id = "boot-0"
        self.running = 0
        self.on_trial = False
        self.public_key = b""
        self.build_id = ""
        self.revision = 0
        self.boot_state = BootState(0, False, 0, 0, 1)
        self.slot = [whole(old), EMPTY]
        self.stream = bytearray()
        self.baud_max = 115_200
        self.key = b""
        self.rates: set[int] = set()
        """Rates besides its own at which it is heard."""
        self.keeps_update = False

    def taken(self) -> bytes:
        return bytes(self.stream)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        planned = self.errors.get(name)
        error = planned.pop(0) if planned else None
        if error is not None:
            raise error

    async def identity(self) -> Identity:
        self._call("identity")
        return Identity(boot_id=self.boot_id, build_id=self.build_id, revision=self.revision)

    async def slots(self) -> Slots:
        self._call("slots")
        return Slots(
            running=self.running,
            target=1 - self.running,
            state=self.boot_state,
            slots=(self.slot[0], self.slot[1]),
            slot_bytes=1 << 20,
            block_bytes=4096,
            key=self.key,
            public_key=self.public_key,
            on_trial=self.on_trial,
            watchdog=True,
            baud_max=self.baud_max,
            board="qemu-virt",
            update=UpdateInfo(b"", 0, 0, b"", 0) if self.keeps_update else None,
        )

    async def activate(
        self, mode: str, tries: int | None = None, *, downgrade: bool = False
    ) -> BootState:
        self._call(f"activate {mode}")
        first = self.boot_state.first
        if mode == "trial":
            self.boot_state = BootState(1 - self.running, True, tries or 1, 0, 2)
        elif mode == "confirm":
            self.boot_state = BootState(first, False, 0, 1, 3)
        else:
            self.boot_state = BootState(1 - first, False, 0, 4, 4)
        return self.boot_state

    async def reset(self) -> None:
        self._call("reset")
        self.boot()

    async def power_cycle(self) -> None:
        self._call("power_cycle")
        self.boot()

    def boot(self) -> None:
        self.boot_id += "'"
        self.running = self.boot_state.first
        self.on_trial = self.boot_state.trial
        if self.boots:
            self.boots.pop(0)(self)

    async def baud(self) -> int:
        return 115_200

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        self._call(f"raise {baud}")
        return baud in (115_200, *self.rates)

    async def lower_baud(self) -> None:
        self._call("lower")

    async def framing(self, wanted: Framing) -> Framing:
        return wanted

    async def update_index(self, first: int, hashes: bytes) -> tuple[int, ...]:
        self._call("update_index")
        return (NOWHERE,) * (len(hashes) // 8)

    async def update_begin(
        self, stream_sha: bytes, stream_size: int, image_sha: bytes, image_size: int
    ) -> int:
        self._call("update_begin")
        return len(self.stream)

    async def update_put(self, off: int, data: bytes) -> int:
        await asyncio.sleep(0)
        if off == len(self.stream):
            self._call("update_put")
            self.stream += data
        return len(self.stream)

    async def update_finish(self, image_sha: bytes) -> None:
        self._call("update_finish")


def whole(image: SlotImage) -> SlotInfo:
    version = str(image.version)
    return SlotInfo(
        "whole", False, 0, image.size_bytes, image.digest, b"", version, "", image.board
    )


def session_of(board: MemoryBoard) -> SmpSession:
    return cast(Any, board)


def refused(number: int) -> RefusedError:
    return RefusedError(f"The board refused: {os.strerror(number)}.", errno=number)


def goes_silent(board: MemoryBoard) -> None:
    """The board hangs until somebody switches it off and on, or its watchdog bites."""
    board.errors["identity"] = [NoAnswerError("silence")] * 1_000_000
    board.state = LinkState.BOOTING


def went_back(board: MemoryBoard) -> None:
    board.errors["identity"] = []
    board.running, board.on_trial = 0, False
    board.boot_state = BootState(0, False, 0, 2, 5)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys"), "board")


@pytest.fixture(scope="module")
def old(key: Path, tmp_path_factory: pytest.TempPathFactory) -> SlotImage:
    return image_of(random_bytes(1, 60_000), key, tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(key: Path, tmp_path_factory: pytest.TempPathFactory) -> SlotImage:
    return image_of(random_bytes(2, 60_000), key, tmp_path_factory.mktemp("new"))


def image_of(content: bytes, key: Path, folder: Path) -> SlotImage:
    path = folder / "slot.bin"
    path.write_bytes(sign(content, key))
    return read_slot_image(path)


def stream(tier: Tier = Tier.BLOCKS, size_bytes: int = 30_000) -> Plan:
    return Plan(tier, 60_000, bytes(size_bytes))


async def try_out(
    board: MemoryBoard, image: SlotImage, told: Told | None = None, patience: Patience = SOON
) -> None:
    if board.slot[1] is EMPTY:
        board.slot[1] = whole(image)
    async with asyncio.timeout(60):
        await trial.try_out(session_of(board), image, Options(), told or Told(), patience)


async def send(
    board: MemoryBoard,
    image: SlotImage,
    plan: Plan,
    told: Told | None = None,
) -> None:
    async with asyncio.timeout(60):
        session, pace = session_of(board), Pace(barren_s=0.3)
        await update.send(session, image, plan, Options(), told or Told(), pace)


async def reverted(board: MemoryBoard, image: SlotImage) -> str:
    with pytest.raises(KsmhostError) as caught:
        await try_out(board, image)
    assert caught.value.code is ExitCode.REVERTED
    return str(caught.value)


# -- trials ----------------------------------------------------------------------------------------


async def test_a_trial_that_comes_up_is_confirmed(old: SlotImage, new: SlotImage) -> None:
    board, told = MemoryBoard(old), Told()
    await try_out(board, new, told)
    assert board.boot_state.outcome == 1 and board.running == 1
    assert "confirmed" in told.said[-1]


async def test_a_trial_that_was_left_is_told(old: SlotImage, new: SlotImage) -> None:
    assert "used up its boots" in await reverted(MemoryBoard(old, went_back), new)


async def test_a_board_without_a_power_switch_is_waited_for(old: SlotImage, new: SlotImage) -> None:
    def watchdog_later(board: MemoryBoard) -> None:
        goes_silent(board)
        asyncio.get_running_loop().call_later(0.5, lambda: (went_back(board), board.boot()))

    board = MemoryBoard(old, watchdog_later)
    # As it comes from a broker: of no class of its own.
    board.errors["power_cycle"] = [KsmhostError("no switch", code=ExitCode.REFUSED)] * 100
    await reverted(board, new)
    assert board.calls.count("power_cycle") == 1


async def test_an_emulated_board_that_hangs_is_switched_off_and_on(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old, goes_silent, went_back)
    await reverted(board, new)
    assert board.calls.count("power_cycle") == 1


async def test_a_boot_under_way_is_not_cut_short(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old, goes_silent)
    with pytest.raises(KsmhostError, match="has not answered"):
        await try_out(board, new, patience=replace(SHORT, boot_s=60.0))
    assert "power_cycle" not in board.calls


async def test_a_disk_that_is_not_there_yet_is_waited_for(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old)
    board.errors["slots"] = [None, refused(errno.ENODEV), refused(errno.ENODEV)]
    await try_out(board, new)
    assert board.boot_state.outcome == 1


@pytest.mark.parametrize("lost", [NoAnswerError("silence"), LineLostError("gone")])
async def test_a_reset_that_was_lost_is_asked_for_again(
    old: SlotImage, new: SlotImage, lost: KsmhostError
) -> None:
    board = MemoryBoard(old)
    board.errors["reset"] = [lost, lost]
    await try_out(board, new)
    assert board.calls.count("reset") == 3 and board.boot_state.outcome == 1


async def test_a_reset_that_was_done_without_an_answer_is_not_repeated(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.errors["reset"] = [NoAnswerError("silence")]
    real = board.reset

    async def silent_reset() -> None:
        board.boot()
        await real()

    board.reset = silent_reset  # type: ignore[method-assign]
    await try_out(board, new)
    assert board.calls.count("reset") == 1


async def test_leaving_a_trial_is_done_though_the_reset_was_lost(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.errors["activate confirm"] = [refused(errno.ENOTRECOVERABLE)]
    board.errors["reset"] = [None, NoAnswerError("silence")]
    assert "self-test" in await reverted(board, new)
    assert (board.running, board.boot_state.outcome) == (0, 4)


async def test_another_kernel_than_the_image_s_is_left(old: SlotImage, new: SlotImage) -> None:
    def other_kernel(board: MemoryBoard) -> None:
        board.build_id = "ab" * 20

    board = MemoryBoard(old, other_kernel)
    assert "runs the kernel abab" in await reverted(board, replace(new, build_id="cd" * 20))
    assert (board.running, board.boot_state.outcome) == (0, 4)


async def test_a_trial_that_the_loader_cannot_count_is_told(old: SlotImage, new: SlotImage) -> None:
    def old_slot_all_the_same(board: MemoryBoard) -> None:
        board.running, board.on_trial = 0, False

    said = await reverted(MemoryBoard(old, old_slot_all_the_same), new)
    assert "could not write the boot state" in said and "flash revert" in said


async def test_an_emulator_that_ended_ends_it(old: SlotImage, new: SlotImage) -> None:
    def ends(board: MemoryBoard) -> None:
        board.errors["identity"] = [BoardGoneError("ended")]
        board.state = LinkState.ENDED

    with pytest.raises(BoardGoneError):
        await try_out(MemoryBoard(old, ends), new)


async def test_somebody_else_s_image_is_not_confirmed(old: SlotImage, new: SlotImage) -> None:
    """Another host brought it to the same slot after ours was verified."""
    board = MemoryBoard(old)
    board.slot[1] = replace(whole(new), hash=bytes(32))
    with pytest.raises(KsmhostError, match="holds another image") as caught:
        await try_out(board, new)
    assert caught.value.code is ExitCode.REFUSED and "activate confirm" not in board.calls


async def test_a_trial_that_ended_before_it_was_confirmed_is_told(
    old: SlotImage, new: SlotImage
) -> None:
    class Late(MemoryBoard):
        async def activate(
            self, mode: str, tries: int | None = None, *, downgrade: bool = False
        ) -> BootState:
            if mode != "confirm":
                return await super().activate(mode, tries, downgrade=downgrade)
            went_back(self)
            raise refused(errno.EINVAL)

    board = Late(old)
    board.errors["activate revert"] = [refused(errno.EINVAL)]
    assert "used up its boots" in await reverted(board, new)


async def test_a_confirmation_by_the_old_image_is_none(old: SlotImage, new: SlotImage) -> None:
    """The board hung in the confirmation, and went back; asked again its old image says yes."""

    class Late(MemoryBoard):
        async def activate(
            self, mode: str, tries: int | None = None, *, downgrade: bool = False
        ) -> BootState:
            state = await super().activate(mode, tries, downgrade=downgrade)
            if mode == "confirm":
                went_back(self)
                state = self.boot_state
            return state

    board, told = Late(old), Told()
    assert "used up its boots" in await reverted(board, new)
    assert not any("confirmed" in words for words in told.said)


async def test_a_disk_that_takes_no_confirmation_is_told(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old)
    board.errors["activate confirm"] = [refused(errno.EIO)]
    assert "could not be confirmed" in await reverted(board, new)
    board = MemoryBoard(old)
    board.errors["activate confirm"] = [refused(errno.EIO)]
    board.errors["activate revert"] = [refused(errno.EIO)]
    with pytest.raises(KsmhostError, match="runs on trial still") as caught:
        await try_out(board, new)
    assert caught.value.code is ExitCode.REFUSED


async def test_a_trial_whose_begin_was_not_answered_is_gone_on_with(
    old: SlotImage, new: SlotImage
) -> None:
    """The board began it and reset; the same question then meets the trial itself."""

    class Quick(MemoryBoard):
        async def activate(
            self, mode: str, tries: int | None = None, *, downgrade: bool = False
        ) -> BootState:
            state = await super().activate(mode, tries, downgrade=downgrade)
            if mode == "trial":
                self.boot()
                raise refused(errno.EBUSY)
            return state

    board, told = Quick(old), Told()
    await try_out(board, new, told)
    assert "confirmed" in told.said[-1] and "reset" not in board.calls


async def test_leaving_no_trial_resets_nothing(old: SlotImage) -> None:
    board = MemoryBoard(old)
    assert not await trial.leave(session_of(board), Told())
    assert board.calls == ["slots"]
    board.boot_state = BootState(1, True, 2, 0, 2)
    assert await trial.leave(session_of(board), Told())
    assert "activate revert" in board.calls and "reset" in board.calls


async def test_a_model_whose_tree_the_image_lacks_is_sent_nothing(
    old: SlotImage, new: SlotImage
) -> None:
    board, family = MemoryBoard(old), replace(new, models=("4b", "400"))
    board.key, board.revision = new.key_hash, 0xC03112
    await survey.survey(session_of(board), family, Options())
    board.revision = 0xB03140
    with pytest.raises(KsmhostError, match="Compute Module 4") as caught:
        await survey.survey(session_of(board), family, Options())
    assert caught.value.code is ExitCode.WRONG_BOARD


async def test_a_trial_given_up_that_still_runs_is_in_the_way(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.key = new.key_hash
    board.running, board.on_trial = 1, True
    board.boot_state = BootState(0, False, 0, 4, 3)
    with pytest.raises(KsmhostError, match="given up, but still runs") as caught:
        await survey.survey(session_of(board), new, Options())
    assert caught.value.code is ExitCode.REFUSED


def test_an_image_that_runs_for_want_of_another_is_told(old: SlotImage) -> None:
    slots = asyncio.run(MemoryBoard(old).slots())
    survey.check_it_stays(slots)
    with pytest.raises(KsmhostError, match="is to boot slot B") as caught:
        survey.check_it_stays(replace(slots, state=BootState(1, False, 0, 2, 9)))
    assert caught.value.code is ExitCode.NOT_ACTIVATED


# -- transfers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LineLostError, NoAnswerError, BoardGoneError])
async def test_a_lost_line_says_how_to_go_on(
    old: SlotImage, new: SlotImage, kind: type[KsmhostError]
) -> None:
    board = MemoryBoard(old)
    board.errors["update_put"] = [None, None, *[kind("lost")] * 1_000_000]
    with pytest.raises(kind, match="same command again: it goes on at 8000 of 30000 bytes"):
        await send(board, new, stream())


@pytest.mark.parametrize("kind", [LineLostError, NoAnswerError, BoardGoneError])
@pytest.mark.parametrize("method", ["update_begin", "update_finish"])
async def test_a_line_lost_around_a_transfer_says_how_to_go_on(
    old: SlotImage, new: SlotImage, kind: type[KsmhostError], method: str
) -> None:
    board = MemoryBoard(old)
    board.errors[method] = [kind("lost", todo="Put it back.")]
    with pytest.raises(kind, match=r"Put it back\. Give the same command again"):
        await send(board, new, stream())


@pytest.mark.parametrize("method", ["slots", "activate trial", "activate confirm"])
async def test_a_line_lost_in_a_trial_says_how_to_go_on(
    old: SlotImage, new: SlotImage, method: str
) -> None:
    board = MemoryBoard(old)
    board.errors[method] = [LineLostError("lost")]
    with pytest.raises(LineLostError, match="same command again: the image is on the board"):
        await try_out(board, new)


@pytest.mark.parametrize("booted", [False, True])
async def test_a_trial_that_an_earlier_command_began_is_gone_on_with(
    old: SlotImage, new: SlotImage, booted: bool
) -> None:
    board = MemoryBoard(old)
    board.key = new.key_hash
    board.slot[1] = whole(new)
    await board.activate("trial", 2)
    if booted:
        board.boot()
    board.calls.clear()
    session = session_of(board)
    plan = await update.make_plan(session, new, await survey.survey(session, new, Options()), ())
    assert plan.tier is Tier.NOTHING
    await send(board, new, plan)
    await try_out(board, new)
    assert (board.running, board.boot_state.outcome) == (1, 1)
    assert "update_finish" not in board.calls and "activate trial" not in board.calls
    assert board.calls.count("reset") == (not booted)


async def test_another_image_s_trial_is_in_the_way(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old)
    board.key = new.key_hash
    await board.activate("trial", 2)
    with pytest.raises(KsmhostError, match="on trial with another image"):
        await survey.survey(session_of(board), new, Options())


# -- rates -----------------------------------------------------------------------------------------


def test_which_rates_are_tried() -> None:
    rates = Rates()
    assert rates.to_try(1_000_000, 115_200, 3_000_000, Options()) == [3_000_000, 921_600]
    assert rates.to_try(1_000_000, 115_200, 460_800, Options()) == [460_800]
    assert rates.to_try(1_000_000, 921_600, 921_600, Options()) == []
    assert rates.to_try(1_000_000, 115_200, 0, Options()) == []
    assert rates.to_try(1_000, 115_200, 3_000_000, Options()) == []
    assert rates.to_try(1_000, 115_200, 0, Options(baud=230_400)) == [230_400]
    assert rates.to_try(1_000_000, 115_200, 3_000_000, Options(baud=115_200)) == []


async def test_a_rate_that_fails_gives_way_to_the_next(old: SlotImage, new: SlotImage) -> None:
    board, told = MemoryBoard(old), Told()
    board.baud_max, board.rates = 3_000_000, {921_600}
    await send(board, new, stream(size_bytes=300_000), told)
    assert [c for c in board.calls if c.startswith("raise")] == ["raise 3000000", "raise 921600"]
    assert "3000000 baud: no answer at that rate, left again" in told.said
    assert board.calls.index("raise 921600") < board.calls.index("update_begin")
    assert "lower" in board.calls and len(board.taken()) == 300_000


async def test_without_any_other_rate_the_line_stays_and_the_console_is_quiet(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.baud_max = 3_000_000
    await send(board, new, stream(size_bytes=300_000))
    assert "raise 115200" in board.calls and "lower" in board.calls
    assert len(board.taken()) == 300_000


async def test_a_rate_that_loses_too_much_is_left_and_nothing_is_sent_twice(
    old: SlotImage, new: SlotImage
) -> None:
    board, told = MemoryBoard(old), Told()
    board.baud_max, board.rates = 921_600, {921_600}
    board.errors["update_put"] = [*[None] * 40, *[NoAnswerError("lost")] * 12]
    await send(board, new, stream(size_bytes=300_000), told)
    assert [c for c in board.calls if c.startswith("raise")] == ["raise 921600", "raise 115200"]
    assert "921600 baud loses too much: going on more slowly" in told.said
    assert any(words.startswith("going on at 160000") for words in told.said)
    assert len(board.taken()) == 300_000


async def test_an_agent_that_was_restarted_gets_the_rest(old: SlotImage, new: SlotImage) -> None:
    board, told = MemoryBoard(old), Told()
    board.errors["update_put"] = [None, refused(errno.ESTALE)]
    board.errors["update_finish"] = [refused(errno.EAGAIN)]
    await send(board, new, stream(), told)
    assert board.taken() == bytes(30_000)
    assert "going on at 4000 of 30000 bytes" in told.said
    assert board.calls.count("update_finish") == 2


async def test_what_is_missing_for_ever_ends_it(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old)
    board.errors["update_finish"] = [refused(errno.EAGAIN)] * 10
    with pytest.raises(KsmhostError, match="did not take"):
        await send(board, new, stream())
    assert board.calls.count("update_begin") == 3


async def test_a_write_that_failed_is_repeated_while_the_board_has_the_rest(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.keeps_update = True
    board.errors["update_finish"] = [refused(errno.EIO)]
    await send(board, new, stream())
    assert board.calls.count("update_begin") == 2
    board.errors["update_finish"] = [refused(errno.EIO)] * 10
    with pytest.raises(KsmhostError, match="disk failed") as caught:
        await send(board, new, stream())
    assert caught.value.code is ExitCode.REFUSED
    assert board.calls.count("update_begin") == 5


async def test_what_cannot_be_read_back_is_not_sent_anew_by_itself(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.errors["update_finish"] = [refused(errno.EIO)]
    with pytest.raises(KsmhostError, match="disk failed"):
        await send(board, new, stream())
    assert board.calls.count("update_begin") == 1


async def test_a_patch_that_does_not_fit_gives_way_to_blocks(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.errors["update_put"] = [refused(errno.EBADMSG)]
    await send(board, new, stream(Tier.PATCH))
    assert "update_index" in board.calls and "update_finish" in board.calls


async def test_blocks_that_are_wrong_are_not_repeated(old: SlotImage, new: SlotImage) -> None:
    board = MemoryBoard(old)
    board.errors["update_put"] = [refused(errno.EBADMSG)]
    with pytest.raises(KsmhostError) as caught:
        await send(board, new, stream())
    assert caught.value.code is ExitCode.BAD_IMAGE and "update_index" not in board.calls


async def test_what_a_slot_holds_already_is_read_before_it_counts(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.slot[1] = whole(new)
    plan = await update.make_plan(session_of(board), new, await board.slots(), ())
    assert plan.tier is Tier.NOTHING
    await send(board, new, plan)
    assert board.calls.count("update_finish") == 1
    board.slot[1] = replace(whole(new), checked=True)
    await send(board, new, plan)
    await send(board, old, plan)
    assert board.calls.count("update_finish") == 1


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["another key", "signature"])
async def test_a_signature_that_the_board_would_not_take_is_refused_here(
    old: SlotImage, new: SlotImage, key: Path, tmp_path: Path, damage: str
) -> None:
    board = MemoryBoard(old)
    board.public_key = key.with_suffix(".pub").read_bytes()
    assert (await survey.survey(session_of(board), new, Options())).target == 1
    if damage == "signature":
        new = replace(new, signature=bytes(64))
    else:
        board.public_key = make_key(tmp_path, "other").with_suffix(".pub").read_bytes()
    with pytest.raises(KsmhostError) as caught:
        await survey.survey(session_of(board), new, Options())
    assert caught.value.code is ExitCode.BAD_SIGNATURE and "update_begin" not in board.calls


async def test_a_board_that_finds_the_image_older_says_what_to_add(
    old: SlotImage, new: SlotImage
) -> None:
    board = MemoryBoard(old)
    board.errors["activate trial"] = [refused(errno.EPERM)]
    with pytest.raises(KsmhostError, match="--allow-downgrade") as caught:
        await try_out(board, new)
    assert caught.value.code is ExitCode.STEP_BACK and "reset" not in board.calls


@pytest.mark.parametrize("number", [errno.EBADMSG, errno.EIO])
async def test_a_slot_that_rotted_gets_what_is_wrong_in_it(
    old: SlotImage, new: SlotImage, number: int
) -> None:
    """By its head it holds the image, so nothing was to be sent."""
    board, told = MemoryBoard(old), Told()
    board.slot[1] = whole(new)
    board.errors["update_finish"] = [refused(number)]
    plan = await update.make_plan(session_of(board), new, await board.slots(), ())
    assert plan.tier is Tier.NOTHING
    await send(board, new, plan, told)
    assert "update_index" in board.calls and board.calls.count("update_finish") == 2
    assert len(board.taken()) > 60_000 and "damaged" in told.said[1]


# -- kept images -----------------------------------------------------------------------------------


def test_a_kept_image_is_found_only_while_it_is_whole(old: SlotImage, tmp_path: Path) -> None:
    kept.keep(old, tmp_path)
    assert kept.find(old.digest, (tmp_path / "none", tmp_path)) == old.data
    copy = tmp_path / f"{old.digest.hex()}.bin"
    copy.write_bytes(old.data[:5000] + b"?" + old.data[5001:])
    assert kept.find(old.digest, (tmp_path,)) is None
    copy.write_bytes(b"")
    assert kept.find(old.digest, (tmp_path,)) is None


def test_another_image_under_its_name_is_none(
    old: SlotImage, new: SlotImage, tmp_path: Path
) -> None:
    (tmp_path / f"{old.digest.hex()}.bin").write_bytes(new.data)
    assert kept.find(old.digest, (tmp_path,)) is None


async def test_a_file_that_changes_after_it_was_read_is_not_read_again(
    key: Path, old: SlotImage, tmp_path: Path
) -> None:
    image = image_of(random_bytes(3, 60_000), key, tmp_path)
    image.path.write_bytes(b"something else")
    board = MemoryBoard(old)
    plan = await update.make_plan(session_of(board), image, await board.slots(), ())
    assert plan.image_bytes == image.size_bytes
    kept.keep(image, tmp_path / "kept")
    found = kept.find(hash_tlv(image.data), (tmp_path / "kept",))
    assert found is not None and hashlib.sha256(found).digest() == image.image_sha
