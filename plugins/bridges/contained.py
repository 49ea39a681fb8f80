"""What other libraries change behind one's back is put back: settings of torch, numpy, logging, Python; and no output.

The model, its buffers and the random generators are the harness's business, of whatever attack.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Inside, nothing is printed, logged or warned of; afterwards every global setting is what it was before."""
    import numpy as np
    import torch

    tracer, threshold, recursion = sys.gettrace(), logging.root.manager.disable, sys.getrecursionlimit()
    dtype, gradient, anomaly = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_anomaly_enabled()
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if threading.current_thread() is threading.main_thread():  # the streams are those of all threads
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(np.errstate())
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(threshold)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(gradient)
            torch.autograd.set_detect_anomaly(anomaly)
            sys.setrecursionlimit(recursion)
            sys.settrace(tracer)
