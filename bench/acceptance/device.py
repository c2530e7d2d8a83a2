"""The first GPU of this machine, as its driver names it: asked through libcuda alone, with no package."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, …_MINOR
NAME_BYTES = 256


class NoDeviceError(RuntimeError):
    """There is no GPU that CUDA can use, and why."""


@dataclass(frozen=True)
class Device:
    """One GPU. `uuid` is what tells that a check ran on this one."""

    name: str
    uuid: str  # 32 hexadecimal digits
    sm: int  # compute capability, times ten
    memory_bytes: int
    cuda: int  # the newest version of CUDA that the driver knows, 13000 for 13.0
    driver: str | None  # None where the kernel module does not tell


def find_device() -> Device:
    """Ask the driver for device 0; `CUDA_VISIBLE_DEVICES` chooses it.

    Raises:
        NoDeviceError: there is no driver, or no GPU.
    """
    cuda, device = _driver(), ctypes.c_int()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    name, uuid = ctypes.create_string_buffer(NAME_BYTES), (ctypes.c_ubyte * 16)()
    memory, version = ctypes.c_size_t(), ctypes.c_int()
    _call(cuda, "cuDeviceGetName", name, NAME_BYTES, device)
    _call(cuda, "cuDeviceGetUuid_v2", uuid, device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    sm = 10 * _attribute(cuda, device, MAJOR) + _attribute(cuda, device, MINOR)
    found = name.value.decode("utf-8", "replace"), bytes(uuid).hex()
    return Device(*found, sm, memory.value, version.value, _driver_version())


def free_bytes() -> int:
    """Memory of device 0 that nothing holds now.

    Raises:
        NoDeviceError: there is no driver, or no GPU.
    """
    cuda, device, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(cuda, "cuCtxPushCurrent_v2", context)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    _call(cuda, "cuCtxPopCurrent_v2", ctypes.byref(context))
    return free.value


def _driver() -> ctypes.CDLL:
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoDeviceError(f"no device: {error}") from None
    count = ctypes.c_int()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise NoDeviceError("no device: the driver counts none")
    return cuda


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    if not hasattr(cuda, name):
        raise NoDeviceError(f"no device: the driver has no {name}")
    if error := getattr(cuda, name)(*arguments):
        raise NoDeviceError(f"no device: {name} gave CUDA error {error}")


def _attribute(cuda: ctypes.CDLL, device: ctypes.c_int, which: int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), which, device)
    return value.value


def _driver_version() -> str | None:
    """Of the kernel module, as `580.159.04`."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    text = ctypes.create_string_buffer(80)
    known = not nvml.nvmlInit_v2() and not nvml.nvmlSystemGetDriverVersion(text, len(text))
    return text.value.decode("ascii", "replace") if known else None
