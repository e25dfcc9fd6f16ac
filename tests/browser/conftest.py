"""Makes the builder of made-up results and the headless browser importable."""

import importlib.util
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent
for _path in (_FOLDER.parent / "report" / "results.py", _FOLDER / "chromium.py"):
    _SPEC = importlib.util.spec_from_file_location(_path.stem, _path)
    sys.modules[_path.stem] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(sys.modules[_path.stem])
