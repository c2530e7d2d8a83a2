// A libcuda.so.1 that says yes to everything: it has one GPU, memory that is the host's, and kernels that do nothing.
//
// Its compute capability is FAKE_SM, 9.0 if that is not set. With FAKE_OVERRUN set, a kernel writes one byte behind the
// workspace, the first that is allocated for a call; with FAKE_EMULATED, the CPU does what the kernel would.
#include <cstdlib>
#include <cstring>

#include <cuda.h>

#include "emulated_kernels.h"

namespace {

constexpr size_t kGuard = 4096;  // of the harness
char* gFirst = nullptr;
size_t gFirstBytes = 0;
int gHeld = 0;

}  // namespace

extern "C" {

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { return *version = 13000, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int) { return *device = 0, CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int bytes, CUdevice) { return strncpy(name, "Fake H100", bytes), CUDA_SUCCESS; }
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice) { return memset(uuid, 0xfa, sizeof *uuid), CUDA_SUCCESS; }
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) { return *bytes = size_t{80} << 30, CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice)
{
    int const sm = getenv("FAKE_SM") ? atoi(getenv("FAKE_SM")) : 90;
    bool const isMajor = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    bool const isMinor = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
    return *value = isMajor ? sm / 10 : isMinor ? sm % 10 : 0, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) { return *context = nullptr, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext* context) { return *context = nullptr, CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* device) { return *device = 0, CUDA_SUCCESS; }
CUresult cuStreamCreate(CUstream* stream, unsigned) { return *stream = nullptr, CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream) { return CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes)
{
    char* const found = static_cast<char*>(malloc(bytes));
    if (!gHeld++) {
        gFirst = found;
        gFirstBytes = bytes;
    }
    return *address = reinterpret_cast<CUdeviceptr>(found), CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) { return --gHeld, free(reinterpret_cast<void*>(address)), CUDA_SUCCESS; }
CUresult cuMemsetD8(CUdeviceptr address, unsigned char value, size_t bytes)
{
    return memset(reinterpret_cast<void*>(address), value, bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, void const* from, size_t bytes)
{
    return memcpy(reinterpret_cast<void*>(to), from, bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes)
{
    return memcpy(to, reinterpret_cast<void*>(from), bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream)
{
    return memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent* event, unsigned) { return *event = nullptr, CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent, CUstream) { return CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent) { return CUDA_SUCCESS; }
CUresult cuEventElapsedTime(float* milliseconds, CUevent, CUevent) { return *milliseconds = 0.01F, CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, char const** text) { return *text = "none", CUDA_SUCCESS; }
CUresult cuModuleLoadData(CUmodule* module, void const*) { return *module = nullptr, CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, char const* name)
{
    return *function = reinterpret_cast<CUfunction>(strdup(name)), CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned, unsigned, unsigned, unsigned, unsigned,
    CUstream, void** arguments, void**)
{
    if (getenv("FAKE_EMULATED")) {
        bool const right = emulated::launch(reinterpret_cast<char const*>(function), gridX, gridY, arguments);
        return right ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    if (getenv("FAKE_OVERRUN")) {
        gFirst[gFirstBytes - kGuard] = 0;
    }
    return CUDA_SUCCESS;
}
}
