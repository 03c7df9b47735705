"""``python -m polysite.engines.nvflare.started PARENT MODULE …``: NVFlare's module, not to outlive its parent."""

import runpy
import sys

from polysite.parent import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    module = sys.argv[2]
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
