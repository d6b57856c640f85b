"""Turns red when Keras changes under the repairs: then mend or remove them."""

from __future__ import annotations

from typing import Any

import pytest

import cases
import harness
import models

pytestmark = [pytest.mark.parity, pytest.mark.timeout(300)]


def test_every_repair_fits_and_is_still_needed(pools: Any, flavour: str) -> None:
    """Untouched, Keras has each fault; repaired, those that calls alone can show are gone."""
    outcome = pools.run(flavour, cases.canaries)
    assert set(outcome.single.values()) == {(True, True)}
    assert set(outcome.ranks[0].values()) <= {(True, False)}


def test_unrepaired_keras_cannot_fit(pools: Any, keras3: str) -> None:
    """keras#20585 as a user meets it. When this passes upstream, the repairs can go."""
    with pytest.raises(harness.CaseFailedError, match="PerReplica"):
        pools.run(keras3, cases.train, models.classifier, {}, {}, repaired=False)
