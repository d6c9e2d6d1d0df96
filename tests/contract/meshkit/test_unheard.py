"""Whether a callee may have done something, when its connection broke before it answered."""

from __future__ import annotations

import pytest

from meshkit.errors import CallError
from tests.contract.meshkit.mux_peers import Gate, channel_to, guard_of, peer, up
from tests.contract.meshkit.test_transports import AUTHORISED, check, until


async def test_a_call_whose_peer_stays_away_says_whether_it_was_there_before() -> None:
    """Whoever reserved money must know whether there may be a hold: the one that had the call died with it."""
    gate = Gate()
    async with peer(gate) as there, channel_to(there) as channel:
        await up(channel)
        call = guard_of(channel).CheckInput(check(), metadata=AUTHORISED, timeout=2)
        await until(lambda: gate.begun == 1)
        await there.kill()
        with pytest.raises(CallError) as lost:
            await call
        with pytest.raises(CallError) as never_sent:
            await guard_of(channel).CheckInput(check(), metadata=AUTHORISED, timeout=2)
        assert (lost.value.status, lost.value.unheard) == ("UNAVAILABLE", True)
        assert (never_sent.value.status, never_sent.value.unheard) == ("UNAVAILABLE", False)
