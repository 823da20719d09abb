"""The cluster file is checked by Ray's own validation, without a cloud."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.mark.ray
def test_ray_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["available_node_types"]["gpu_worker"]["min_workers"] == 0, "idle GPUs cost money"
    assert "RAY_AUTH_TOKEN=" not in str(config), "secrets come from the environment"
