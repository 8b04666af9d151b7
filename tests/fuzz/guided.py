"""One target under atheris, which looks for octets that reach new code.

python tests/fuzz/guided.py TARGET CORPUS... [-OPTION=VALUE...] (libFuzzer's own)
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
with atheris.instrument_imports(include=["bitsd"]):
    from fuzz_targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.enabled_hooks.add("RegEx")
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
