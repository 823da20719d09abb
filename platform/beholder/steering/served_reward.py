"""A reward as MLflow serves it: rows of the `features` table and a user in, expected rating and its SD out.

MLflow runs this file when it loads the model ("models from code"); nothing imports it. Columns: `user_id` (empty for
the mean person), `network`, `statistics` (packed float32). Unknown users are an error: whoever asks decides whether the
mean person may stand for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd

if TYPE_CHECKING:
    from beholder.steering.reward import Reward


class ServedReward(mlflow.pyfunc.PythonModel):
    """Loads a saved `Reward` and answers with tables."""

    _reward: Reward

    def load_context(self, context: Any) -> None:
        """Read the reward's folder."""
        from beholder.steering.reward import Reward

        self._reward = Reward.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`mean` and `sd` in ticks, one row a row of `model_input`."""
        from beholder.steering.reward import raw_features

        raw = raw_features(model_input.assign(image_id=[f"row {k}" for k in range(len(model_input))]))
        found = self._reward.predict(model_input["user_id"].to_numpy(str), self._reward.design(raw))
        return pd.DataFrame({"mean": found.mean, "sd": found.sd})


mlflow.models.set_model(ServedReward())
