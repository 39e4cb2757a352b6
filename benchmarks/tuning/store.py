"""What has been computed: a JSON file per task, arm by arm and seed by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tuning.tasks import Case

CACHE = Path(__file__).parent / "cache"


class Store:
    """Results of one task.

    Args:
        case: The task.
        folder: Where the files are.

    Raises:
        SystemExit: The file is of the task in another size.
    """

    def __init__(self, case: Case, folder: Path = CACHE) -> None:
        self.path = folder / f"{case.name}.json"
        self.data: dict[str, Any] = {"size": case.size.to_dict()}
        if self.path.exists():
            self.data = json.loads(self.path.read_text(encoding="utf-8"))
        if self.data["size"] != case.size.to_dict():
            raise SystemExit(
                f"{self.path} was computed with {self.data['size']}, and {case.name} is now "
                f"{case.size.to_dict()}; delete it to compute it anew"
            )

    def get(self, arm: str, seed: int) -> Any:
        """Give a result, None if there is none yet."""
        return self.data.get(arm, {}).get(str(seed))

    def put(self, arm: str, seed: int, result: dict[str, Any]) -> None:
        """Keep a result, on disk as well."""
        self.data.setdefault(arm, {})[str(seed)] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        text = json.dumps(self.data, indent=1, sort_keys=True)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.path)
