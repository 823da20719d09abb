"""The benchmark for GPUs runs through with toy networks on a CPU, and finds there what holds on a CPU."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.slow
def test_all_of_it_runs_on_toy_networks(tmp_path: Path) -> None:
    import bench_gpu

    assert bench_gpu.main(["--tiny", "--scratch", str(tmp_path), "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["flux"]["same_bytes_in_another_order"]
    assert max(away["largest"] for away in found["flux"]["away_in_batches_of"].values()) <= 1
    assert found["scorer"]["finite"]
    assert 0 < found["fusion"]["cpu"]["loss"] < 1.2, "in units of the variance within users"
    rates = [found["flux"]["images_a_second"], found["encoder"]["network_alone"], found["scorer"]["images_a_second"]]
    assert all(math.isfinite(rate) for rate in rates)
