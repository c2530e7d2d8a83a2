// The compiled Triton kernels, and how they reach a GPU: through the driver, found when first needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include <cuda.h>

namespace fastadasp {

// One compiled kernel. build.py writes the table of them into kernels.inc.
struct Kernel {
    char const* name;       // of the Triton function
    char const* symbol;     // in the image
    char const* type;       // element type of its T pointers, "" if it has none
    int32_t headBlock;      // BLOCK_D, 0 if it has none
    int32_t block;          // BLOCK: what one program covers
    int32_t sm;             // compute capability, 80 = 8.0
    bool isPtx;             // PTX runs on later devices too, a cubin on those of the same major; from 90 on see below
    uint32_t warps;
    uint32_t sharedBytes;
    void const* image;
};

// From this compute capability on Triton compiles for its features alone (sm_90a): such images run on no other.
constexpr int32_t kOwnFeatures = 90;

// A kernel for the device of the current context: the newest cubin that runs on it, else PTX.
// Null, after a message that names the kernel, if there is none.
struct Launcher {
    Kernel const* kernel;
    CUfunction function;
    CUstream stream;

    // Arguments by address, without the two scratch pointers that Triton appends. Null on success is `true`.
    bool operator()(uint32_t gridX, uint32_t gridY, std::initializer_list<void const*> arguments) const;
    // Programs that cover `count`.
    uint32_t programs(int64_t count) const { return static_cast<uint32_t>((count + kernel->block - 1) / kernel->block); }
};

// False, after a message, if this device has no such kernel.
bool findKernel(Launcher& launcher, char const* name, char const* type, int32_t headBlock, CUstream stream);

bool copyOnDevice(void* to, void const* from, size_t bytes, CUstream stream);

// One line to TensorRT's logger, or to stderr before there is one.
void report(char const* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace fastadasp
