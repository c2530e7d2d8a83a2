// Loads and launches the embedded kernels. The driver is opened by name, so a machine without one can build engines.
#include "kernels.h"

#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "kernels.inc"  // written by build.py: namespace fastadasp { constexpr Kernel kKernels[] }

namespace fastadasp {
namespace {

struct Driver {
    CUresult (*getErrorString)(CUresult, char const**);
    CUresult (*currentContext)(CUcontext*);
    CUresult (*currentDevice)(CUdevice*);
    CUresult (*deviceAttribute)(int*, CUdevice_attribute, CUdevice);
    CUresult (*loadModule)(CUmodule*, void const*);
    CUresult (*getFunction)(CUfunction*, CUmodule, char const*);
    CUresult (*setFunctionAttribute)(CUfunction, CUfunction_attribute, int);
    CUresult (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
        void**, void**);
    CUresult (*copy)(CUdeviceptr, CUdeviceptr, size_t, CUstream);
};

template <class Function>
bool bind(void* library, char const* symbol, Function& function)
{
    function = reinterpret_cast<Function>(dlsym(library, symbol));
    if (!function) {
        report("libcuda.so.1 has no %s; update the NVIDIA driver", symbol);
    }
    return function;
}

bool bindAll(Driver& driver)
{
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        report("libcuda.so.1 cannot be loaded (%s); install the NVIDIA driver", dlerror());
        return false;
    }
    return bind(library, "cuGetErrorString", driver.getErrorString)
        && bind(library, "cuCtxGetCurrent", driver.currentContext) && bind(library, "cuCtxGetDevice", driver.currentDevice)
        && bind(library, "cuDeviceGetAttribute", driver.deviceAttribute)
        && bind(library, "cuModuleLoadData", driver.loadModule)
        && bind(library, "cuModuleGetFunction", driver.getFunction)
        && bind(library, "cuFuncSetAttribute", driver.setFunctionAttribute)
        && bind(library, "cuLaunchKernel", driver.launch) && bind(library, "cuMemcpyDtoDAsync_v2", driver.copy);
}

// Null, after a message, without a driver.
Driver const* driver()
{
    static Driver bound{};
    static bool const complete = bindAll(bound);
    return complete ? &bound : nullptr;
}

bool succeeded(CUresult result, char const* kernel, char const* call)
{
    if (result == CUDA_SUCCESS) {
        return true;
    }
    char const* text = nullptr;
    driver()->getErrorString(result, &text);
    report("kernel %s: %s failed with CUDA error %d (%s)", kernel, call, static_cast<int>(result), text ? text : "unknown");
    return false;
}

// The compute capability of the current device, 80 for 8.0; 0 after a message.
int32_t currentSm(char const* kernel)
{
    CUdevice device{};
    int major = 0;
    int minor = 0;
    Driver const& cuda = *driver();
    bool const known = succeeded(cuda.currentDevice(&device), kernel, "cuCtxGetDevice")
        && succeeded(cuda.deviceAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device), kernel,
            "cuDeviceGetAttribute")
        && succeeded(cuda.deviceAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device), kernel,
            "cuDeviceGetAttribute");
    return known ? 10 * major + minor : 0;
}

// A cubin before PTX, a newer one before an older one; 0 if it does not run on `sm`.
int32_t preference(Kernel const& kernel, int32_t sm)
{
    bool const later = kernel.sm < kOwnFeatures && kernel.sm < sm && (kernel.isPtx || kernel.sm / 10 == sm / 10);
    bool const runs = kernel.sm == sm || later;
    return runs ? kernel.sm + (kernel.isPtx ? 0 : 1000) : 0;
}

Kernel const* choose(char const* name, char const* type, int32_t headBlock, int32_t sm)
{
    Kernel const* best = nullptr;
    for (Kernel const& kernel : kKernels) {
        bool const same
            = !strcmp(kernel.name, name) && !strcmp(kernel.type, type) && kernel.headBlock == headBlock;
        if (same && preference(kernel, sm) > (best ? preference(*best, sm) : 0)) {
            best = &kernel;
        }
    }
    return best;
}

// Load one kernel into the current context.
CUfunction load(Kernel const& kernel)
{
    constexpr uint32_t kSharedWithoutAsking = 48 << 10;
    Driver const& cuda = *driver();
    CUmodule module{};
    CUfunction function{};
    bool ready = succeeded(cuda.loadModule(&module, kernel.image), kernel.name, "cuModuleLoadData")
        && succeeded(cuda.getFunction(&function, module, kernel.symbol), kernel.name, "cuModuleGetFunction");
    if (ready && kernel.sharedBytes > kSharedWithoutAsking) {
        ready = succeeded(cuda.setFunctionAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                              static_cast<int>(kernel.sharedBytes)),
            kernel.name, "cuFuncSetAttribute");
    }
    return ready ? function : nullptr;
}

// Each kernel is loaded once per context.
CUfunction loaded(Kernel const& kernel, CUcontext context)
{
    static std::mutex mutex;
    static std::map<std::pair<CUcontext, Kernel const*>, CUfunction> functions;
    std::lock_guard<std::mutex> const lock(mutex);
    CUfunction& function = functions[{context, &kernel}];
    if (!function) {
        function = load(kernel);
    }
    return function;
}

}  // namespace

bool findKernel(Launcher& launcher, char const* name, char const* type, int32_t headBlock, CUstream stream)
{
    CUcontext context{};
    if (!driver() || !succeeded(driver()->currentContext(&context), name, "cuCtxGetCurrent")) {
        return false;
    }
    int32_t const sm = currentSm(name);
    if (!sm) {
        return false;
    }
    Kernel const* kernel = choose(name, type, headBlock, sm);
    if (!kernel) {
        report("no kernel %s (%s, head block %d) for compute capability %d.%d in this library; build it with "
               "`fastadasp-export plugins build --sm %d`",
            name, *type ? type : "any type", headBlock, sm / 10, sm % 10, sm);
        return false;
    }
    launcher = {kernel, loaded(*kernel, context), stream};
    return launcher.function;
}

bool Launcher::operator()(uint32_t gridX, uint32_t gridY, std::initializer_list<void const*> arguments) const
{
    constexpr uint32_t kWarp = 32;
    CUdeviceptr noScratch = 0;
    std::vector<void*> all;
    for (void const* argument : arguments) {
        all.push_back(const_cast<void*>(argument));
    }
    all.insert(all.end(), 2, &noScratch);
    return succeeded(driver()->launch(function, gridX, gridY, 1, kWarp * kernel->warps, 1, 1, kernel->sharedBytes,
                         stream, all.data(), nullptr),
        kernel->name, "cuLaunchKernel");
}

bool copyOnDevice(void* to, void const* from, size_t bytes, CUstream stream)
{
    return driver()
        && succeeded(driver()->copy(reinterpret_cast<CUdeviceptr>(to), reinterpret_cast<CUdeviceptr>(from), bytes, stream),
            "copy", "cuMemcpyDtoDAsync");
}

}  // namespace fastadasp
