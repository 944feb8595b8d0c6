"""Asks the NVIDIA driver's library what GPUs there are, before anything that could do it is installed."""

import ctypes
import sys


def nvidia() -> tuple[str | None, str | None]:
    """Return the driver's version and the highest compute capability ("8.9"), both None without a GPU."""
    names = ["libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"]
    if sys.platform == "win32":
        names = ["nvml.dll", r"C:\Program Files\NVIDIA Corporation\NVSMI\nvml.dll"]
    for name in names:
        try:
            library = ctypes.CDLL(name)
            if library.nvmlInitWithFlags(0) != 0:
                continue
            version = ctypes.create_string_buffer(96)
            library.nvmlSystemGetDriverVersion(version, 96)
            capabilities = compute_capabilities(library)
            library.nvmlShutdown()
        except (OSError, AttributeError):
            continue
        if capabilities:
            return version.value.decode("ascii", "replace"), "{}.{}".format(*max(capabilities))
    return None, None


def compute_capabilities(library: ctypes.CDLL) -> list[tuple[int, int]]:
    """Return those of the GPUs that answer."""
    count, found = ctypes.c_uint(), []
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        numbers = ctypes.byref(major), ctypes.byref(minor)
        if device and not library.nvmlDeviceGetCudaComputeCapability(device, *numbers):
            found.append((major.value, minor.value))
    return found
