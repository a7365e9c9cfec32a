"""The tour in docs/tour.md runs as it stands, and ends in an explained word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TOUR = Path(__file__).resolve().parents[2] / "docs" / "tour.md"


def test_tour_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", TOUR.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert re.search(r"^exact: within \d\.\de-0[5-9] nats of the model$", run.stdout, re.MULTILINE)
    assert re.search(r"^sparse: [\d,]+ edges at the start, [\d,]+ in the end$", run.stdout, re.MULTILINE)
    assert "emitted: Once upon a time" in run.stdout
    assert re.search(r"after ' upon' ' a' ' time': log p -[\d.]+ = ", run.stdout)
