"""OpenCV, made to give the same bits on every processor of an architecture: one thread, and none of its code that depends on the processor.

Its wheel has several versions of its inner loops and chooses one by the processor; their roundings differ. With
`setUseOptimized(False)` it takes those that it has for all processors (docs/stabilisation.md has the check). Everything
here is an optional extra: nothing but this package may import cv2.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def exact_cv2() -> ModuleType:
    """Import OpenCV and keep it from anything that depends on the machine.

    Raises:
        ImportError: the optional extra is not installed.
    """
    cv2 = import_module("cv2")
    cv2.setNumThreads(1)
    cv2.setUseOptimized(False)
    cv2.ocl.setUseOpenCL(False)
    return cv2
