"""No damaged file crashes the decoder, takes it long, or becomes another picture than it was."""

from __future__ import annotations

from collections import Counter

from mutations import DAMAGE, SECONDS, Fuzzer, cases


def test_damaged_files_are_refused_or_decoded_right() -> None:
    fuzzer = Fuzzer()
    outcomes = [fuzzer.run(case) for case in cases(400, 100, 40, seed=1)]
    assert {o.kind for o in outcomes} == set(DAMAGE)
    results = Counter(o.result for o in outcomes if o.kind != "forged")
    assert results["wrong"] == 0
    assert results["refused"] > 350
    assert max(o.seconds for o in outcomes) < SECONDS
