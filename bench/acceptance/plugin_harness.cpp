// Calls the plugin library as TensorRT would, where there is no TensorRT: creators, shapes, and kernels on a GPU.
//
//     plugin_harness LIBRARY CASE…
//
// CASE is a folder: case.txt names the plugin, its attributes and its tensors, each with a file of raw numbers; see
// plugin_harness.py, which writes them. Standard output is JSON, one object a line: first the creators and the device,
// then each case. Without a device, everything but `enqueue` is called, and the answer says so.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <NvInferRuntime.h>
#include <cuda.h>

using namespace nvinfer1;

namespace {

constexpr size_t kGuard = 4096;        // bytes behind every buffer that no kernel may touch
constexpr unsigned char kUnset = 0xFF;  // NaN in each format: what was never written equals no reference
constexpr int kTimedRuns = 10;
constexpr int kFaulty = 3;  // exit code after a fault on a device, which may spoil its context for later cases

struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string quoted(std::string const& text)
{
    std::string found = "\"";
    for (char const c : text) {
        found += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, static_cast<unsigned char>(c) < ' ' ? ' ' : c);
    }
    return found + "\"";
}

// What the library reports goes into the fault of the call.
class Messages final : public ILogger, public ILoggerFinder {
public:
    void log(Severity, char const* text) noexcept override { said += (said.empty() ? "" : "; ") + std::string(text); }
    ILogger* findLogger() override { return this; }
    std::string said;
};
Messages gMessages;

void require(bool holds, std::string const& what)
{
    if (!holds) {
        throw Fault(gMessages.said.empty() ? what : what + ": " + gMessages.said);
    }
}

// ---- the driver, opened by its name: a machine without one runs all the rest

void* gDriver = nullptr;

void* symbol(char const* name)
{
    void* const found = dlsym(gDriver, name);
    require(found, std::string("libcuda.so.1 has no ") + name);
    return found;
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)  // of what cuda.h makes of the name, with its version
#define CUDA(name, ...) check(reinterpret_cast<decltype(&name)>(symbol(TEXT(name)))(__VA_ARGS__), #name)

void check(CUresult result, char const* call)
{
    if (result != CUDA_SUCCESS) {
        char const* text = nullptr;
        reinterpret_cast<decltype(&cuGetErrorString)>(symbol("cuGetErrorString"))(result, &text);
        throw Fault(std::string(call) + ": CUDA error " + std::to_string(result) + ", " + (text ? text : "unknown"));
    }
}

struct Gpu {
    std::string description;
    CUstream stream{};

    Gpu()
    {
        gDriver = dlopen("libcuda.so.1", RTLD_NOW);
        if (!gDriver) {
            throw Fault(std::string("no device: ") + dlerror());
        }
        int version = 0, count = 0, major = 0, minor = 0;
        CUdevice device{};
        CUcontext context{};
        CUuuid uuid{};
        char name[256] = {};
        CUDA(cuInit, 0);
        CUDA(cuDriverGetVersion, &version);
        CUDA(cuDeviceGetCount, &count);
        require(count > 0, "no device: the driver counts none");
        CUDA(cuDeviceGet, &device, 0);
        CUDA(cuDeviceGetName, name, sizeof name - 1, device);
        CUDA(cuDeviceGetUuid, &uuid, device);
        CUDA(cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
        CUDA(cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
        CUDA(cuDevicePrimaryCtxRetain, &context, device);
        CUDA(cuCtxSetCurrent, context);
        CUDA(cuStreamCreate, &stream, CU_STREAM_DEFAULT);  // waits for the copies, which name no stream
        std::string hex;
        for (char const byte : uuid.bytes) {
            char digits[3];
            snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
            hex += digits;
        }
        description = "{\"name\": " + quoted(name) + ", \"uuid\": \"" + hex + "\", \"sm\": " + std::to_string(10 * major + minor)
            + ", \"cuda\": " + std::to_string(version) + "}";
    }
};

// Memory of the device with a guard behind it.
class Buffer {
public:
    explicit Buffer(size_t bytes)
        : mBytes(bytes)
    {
        CUDA(cuMemAlloc, &mAddress, bytes + kGuard);
        fill();
    }
    ~Buffer() { reinterpret_cast<decltype(&cuMemFree)>(symbol(TEXT(cuMemFree)))(mAddress); }
    Buffer(Buffer const&) = delete;
    Buffer& operator=(Buffer const&) = delete;

    void fill() { CUDA(cuMemsetD8, mAddress, kUnset, mBytes + kGuard); }
    void upload(std::vector<char> const& from) { CUDA(cuMemcpyHtoD, mAddress, from.data(), from.size()); }
    std::vector<char> download() const
    {
        std::vector<char> all(mBytes + kGuard);
        CUDA(cuMemcpyDtoH, all.data(), mAddress, all.size());
        bool const intact = std::all_of(all.begin() + mBytes, all.end(), [](char c) { return c == static_cast<char>(kUnset); });
        require(intact, "enqueue wrote behind the end of a tensor or of its workspace");
        all.resize(mBytes);
        return all;
    }
    void* address() const { return reinterpret_cast<void*>(mAddress); }

private:
    size_t mBytes;
    CUdeviceptr mAddress{};
};

// ---- expressions of shapes; in TensorRT they are unknown when a network is parsed, here they are numbers

class Number final : public IDimensionExpr, public apiv::VDimensionExpr {
public:
    explicit Number(int64_t value)
        : mValue(value)
    {
        mImpl = this;
    }
    bool isConstant() const override { return true; }
    int64_t getConstantValue() const override { return mValue; }
    bool isSizeTensor() const override { return false; }

private:
    int64_t mValue;
};

class Builder final : public IExprBuilder, public apiv::VExprBuilder {
public:
    Builder() { mImpl = this; }
    IDimensionExpr const* constant(int64_t value) override
    {
        mNumbers.push_back(std::make_unique<Number>(value));
        return mNumbers.back().get();
    }
    IDimensionExpr const* operation(DimensionOperation op, IDimensionExpr const& first, IDimensionExpr const& second) override
    {
        return constant(value(op, first.getConstantValue(), second.getConstantValue()));
    }
    IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&, IDimensionExpr const&) override { return nullptr; }

private:
    static int64_t value(DimensionOperation op, int64_t a, int64_t b)
    {
        switch (op) {
        case DimensionOperation::kSUM: return a + b;
        case DimensionOperation::kSUB: return a - b;
        case DimensionOperation::kPROD: return a * b;
        case DimensionOperation::kMAX: return std::max(a, b);
        case DimensionOperation::kMIN: return std::min(a, b);
        case DimensionOperation::kEQUAL: return a == b;
        case DimensionOperation::kLESS: return a < b;
        case DimensionOperation::kFLOOR_DIV: return a / b;
        case DimensionOperation::kCEIL_DIV: return (a + b - 1) / b;
        }
        throw Fault("a shape uses an operation that is unknown here");
    }
    std::vector<std::unique_ptr<Number>> mNumbers;
};

// ---- cases

struct Tensor {
    PluginTensorDesc desc{};
    std::string file;
    std::vector<char> content;

    size_t bytes() const
    {
        size_t count = desc.type == DataType::kINT64 ? 8 : desc.type == DataType::kFLOAT ? 4 : 2;
        for (int32_t i = 0; i < desc.dims.nbDims; ++i) {
            count *= desc.dims.d[i];
        }
        return count;
    }
};

struct Case {
    std::string folder, plugin;
    std::vector<std::pair<std::string, int32_t>> attributes;
    std::vector<Tensor> inputs, outputs;
    bool isTimed{false};
};

DataType typeNamed(std::string const& name)
{
    static std::map<std::string, DataType> const kTypes{{"fp32", DataType::kFLOAT}, {"fp16", DataType::kHALF},
        {"bf16", DataType::kBF16}, {"int64", DataType::kINT64}};
    return kTypes.at(name);
}

std::vector<char> contentOf(std::string const& path, size_t bytes)
{
    std::ifstream stream(path, std::ios::binary);
    std::vector<char> content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    require(content.size() == bytes, path + " has " + std::to_string(content.size()) + " bytes, its tensor " + std::to_string(bytes));
    return content;
}

Tensor tensorOf(std::istream& line)
{
    Tensor tensor;
    std::string type;
    line >> type >> tensor.file;
    tensor.desc.type = typeNamed(type);
    tensor.desc.format = TensorFormat::kLINEAR;
    for (int64_t length; line >> length;) {
        tensor.desc.dims.d[tensor.desc.dims.nbDims++] = length;
    }
    return tensor;
}

Case readCase(std::string const& folder)
{
    Case found;
    found.folder = folder;
    std::ifstream stream(folder + "/case.txt");
    for (std::string text; std::getline(stream, text);) {
        std::istringstream line(text);
        std::string word;
        line >> word;
        if (word == "plugin") {
            line >> found.plugin;
        } else if (word == "attribute") {
            found.attributes.emplace_back();
            line >> found.attributes.back().first >> found.attributes.back().second;
        } else if (word == "timed") {
            found.isTimed = true;
        } else {
            (word == "input" ? found.inputs : found.outputs).push_back(tensorOf(line));
        }
    }
    for (Tensor& input : found.inputs) {
        if (input.file == "-") {
            continue;  // there is no device, which alone reads it
        }
        input.content = contentOf(folder + "/" + input.file, input.bytes());
    }
    return found;
}

std::vector<PluginTensorDesc> plain(std::vector<Tensor> const& tensors)
{
    std::vector<PluginTensorDesc> found;
    for (Tensor const& tensor : tensors) {
        found.push_back(tensor.desc);
    }
    return found;
}

std::vector<DynamicPluginTensorDesc> dynamic(std::vector<Tensor> const& tensors)
{
    std::vector<DynamicPluginTensorDesc> found;
    for (Tensor const& tensor : tensors) {
        Dims const& dims = tensor.desc.dims;
        found.push_back({tensor.desc, dims, dims, dims});
    }
    return found;
}

// ---- one plugin

struct Parts {
    IPluginV3OneCore* core;
    IPluginV3OneBuild* build;
    IPluginV3OneRuntime* runtime;

    explicit Parts(IPluginV3& plugin)
        : core(static_cast<IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE)))
        , build(static_cast<IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD)))
        , runtime(static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME)))
    {
        require(core && build && runtime, "the plugin lacks a capability");
    }
};

using Owned = std::unique_ptr<IPluginV3>;

void checkFormats(Case const& each, IPluginV3OneBuild& build)
{
    std::vector<DynamicPluginTensorDesc> all = dynamic(each.inputs);
    int32_t const inputs = static_cast<int32_t>(each.inputs.size());
    for (DynamicPluginTensorDesc const& output : dynamic(each.outputs)) {
        all.push_back(output);
    }
    for (int32_t i = 0; i < static_cast<int32_t>(all.size()); ++i) {
        auto const takes = [&] { return build.supportsFormatCombination(i, all.data(), inputs, build.getNbOutputs()); };
        PluginTensorDesc const right = all[i].desc;
        require(takes(), "tensor " + std::to_string(i) + " of this type is refused");
        all[i].desc.type = DataType::kINT8;
        require(!takes(), "tensor " + std::to_string(i) + " is taken as int8");
        all[i].desc = right;
        all[i].desc.format = TensorFormat::kCHW32;
        require(!takes(), "tensor " + std::to_string(i) + " is taken in the format CHW32");
        all[i].desc = right;
    }
}

void checkShapes(Case const& each, IPluginV3OneBuild& build)
{
    require(build.getNbOutputs() == static_cast<int32_t>(each.outputs.size()), "another number of outputs");
    std::vector<DataType> given, promised(each.outputs.size());
    std::vector<DimsExprs> shapes, found(each.outputs.size());
    Builder builder;
    for (Tensor const& input : each.inputs) {
        given.push_back(input.desc.type);
        shapes.emplace_back();
        shapes.back().nbDims = input.desc.dims.nbDims;
        for (int32_t i = 0; i < input.desc.dims.nbDims; ++i) {
            shapes.back().d[i] = builder.constant(input.desc.dims.d[i]);
        }
    }
    int32_t const inputs = static_cast<int32_t>(given.size()), outputs = static_cast<int32_t>(promised.size());
    require(!build.getOutputDataTypes(promised.data(), outputs, given.data(), inputs), "getOutputDataTypes failed");
    require(!build.getOutputShapes(shapes.data(), inputs, nullptr, 0, found.data(), outputs, builder), "getOutputShapes failed");
    for (int32_t i = 0; i < outputs; ++i) {
        PluginTensorDesc const& wanted = each.outputs[i].desc;
        require(promised[i] == wanted.type, "getOutputDataTypes: another type");
        bool same = found[i].nbDims == wanted.dims.nbDims;
        for (int32_t axis = 0; same && axis < wanted.dims.nbDims; ++axis) {
            same = found[i].d[axis]->getConstantValue() == wanted.dims.d[axis];
        }
        require(same, "getOutputShapes: another shape");
    }
}

// The plugin as an engine brings it back: from what it serialised.
Owned revived(IPluginCreatorV3One& creator, IPluginV3OneRuntime& runtime)
{
    PluginFieldCollection const* const fields = runtime.getFieldsToSerialize();
    require(fields, "getFieldsToSerialize gave nothing");
    Owned again(creator.createPlugin("revived", fields, TensorRTPhase::kRUNTIME));
    require(static_cast<bool>(again), "createPlugin from serialised fields failed");
    PluginFieldCollection const* const twice = Parts(*again).runtime->getFieldsToSerialize();
    require(twice->nbFields == fields->nbFields, "other fields after a round trip");
    for (int32_t i = 0; i < fields->nbFields; ++i) {
        PluginField const &one = fields->fields[i], &other = twice->fields[i];
        require(!strcmp(one.name, other.name) && !memcmp(one.data, other.data, sizeof(int32_t)), "another value after a round trip");
    }
    return again;
}

Owned created(IPluginCreatorV3One& creator, Case const& each)
{
    std::vector<PluginField> fields;
    for (auto const& [name, value] : each.attributes) {
        fields.emplace_back(name.c_str(), &value, PluginFieldType::kINT32, 1);
    }
    PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
    Owned plugin(creator.createPlugin("node", &collection, TensorRTPhase::kBUILD));
    require(static_cast<bool>(plugin), "createPlugin failed");
    return plugin;
}

// Everything that needs no device: the plugin that an execution context would hold, and the bytes of its workspace.
std::pair<Owned, size_t> prepared(IPluginCreatorV3One& creator, Case const& each)
{
    Owned const plugin = created(creator, each);
    Parts const parts(*plugin);
    require(each.plugin == parts.core->getPluginName(), "the plugin has another name than its creator");
    checkFormats(each, *parts.build);
    checkShapes(each, *parts.build);
    auto const in = dynamic(each.inputs), out = dynamic(each.outputs);
    int32_t const inputs = static_cast<int32_t>(in.size()), outputs = static_cast<int32_t>(out.size());
    require(!parts.build->configurePlugin(in.data(), inputs, out.data(), outputs), "configurePlugin failed");
    size_t const workspace = parts.build->getWorkspaceSize(in.data(), inputs, out.data(), outputs);
    Owned const copy(plugin->clone());
    Owned const again = revived(creator, *Parts(*copy).runtime);
    Owned attached(Parts(*again).runtime->attachToContext(nullptr));
    require(static_cast<bool>(attached), "attachToContext gave nothing");
    auto const now = plain(each.inputs), later = plain(each.outputs);
    require(!Parts(*attached).runtime->onShapeChange(now.data(), inputs, later.data(), outputs), "onShapeChange failed");
    return {std::move(attached), workspace};
}

// Device memory of a case, and calls of `enqueue` on it.
class Launch {
public:
    Launch(Gpu const& gpu, Case const& each, IPluginV3& plugin, size_t workspace)
        : mGpu(gpu)
        , mCase(each)
        , mRuntime(*Parts(plugin).runtime)
        , mWorkspace(workspace)
    {
        for (Tensor const& input : each.inputs) {
            mInputs.push_back(std::make_unique<Buffer>(input.bytes()));
            mInputs.back()->upload(input.content);
            mIn.push_back(mInputs.back()->address());
        }
        for (Tensor const& output : each.outputs) {
            mOutputs.push_back(std::make_unique<Buffer>(output.bytes()));
            mOut.push_back(mOutputs.back()->address());
        }
    }
    // The outputs of one call, into memory that held nothing before.
    std::vector<std::vector<char>> run()
    {
        for (auto const& output : mOutputs) {
            output->fill();
        }
        mWorkspace.fill();
        enqueue();
        CUDA(cuStreamSynchronize, mGpu.stream);
        mWorkspace.download();
        for (size_t i = 0; i < mInputs.size(); ++i) {
            require(mInputs[i]->download() == mCase.inputs[i].content, "enqueue changed input " + std::to_string(i));
        }
        std::vector<std::vector<char>> found;
        for (auto const& output : mOutputs) {
            found.push_back(output->download());
        }
        return found;
    }
    float microseconds()
    {
        CUevent begin{}, end{};
        float milliseconds = 0;
        CUDA(cuEventCreate, &begin, CU_EVENT_DEFAULT);
        CUDA(cuEventCreate, &end, CU_EVENT_DEFAULT);
        CUDA(cuEventRecord, begin, mGpu.stream);
        enqueue();
        CUDA(cuEventRecord, end, mGpu.stream);
        CUDA(cuEventSynchronize, end);
        CUDA(cuEventElapsedTime, &milliseconds, begin, end);
        return milliseconds * 1000;
    }

private:
    void enqueue()
    {
        auto const in = plain(mCase.inputs), out = plain(mCase.outputs);
        auto const stream = reinterpret_cast<cudaStream_t>(mGpu.stream);
        int32_t const failed = mRuntime.enqueue(in.data(), out.data(), mIn.data(), mOut.data(), mWorkspace.address(), stream);
        require(!failed, "enqueue failed");
    }

    Gpu const& mGpu;
    Case const& mCase;
    IPluginV3OneRuntime& mRuntime;
    Buffer mWorkspace;
    std::vector<std::unique_ptr<Buffer>> mInputs, mOutputs;
    std::vector<void const*> mIn;
    std::vector<void*> mOut;
};

// JSON of the times; the outputs are in their files.
std::string launched(Gpu const& gpu, Case const& each, IPluginV3& plugin, size_t workspace)
{
    Launch launch(gpu, each, plugin, workspace);
    auto const outputs = launch.run();
    require(launch.run() == outputs, "a second call gave other bits");
    std::string times;
    for (int i = 0; each.isTimed && i < kTimedRuns; ++i) {
        times += (i ? ", " : "") + std::to_string(launch.microseconds());
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
        std::ofstream(each.folder + "/" + each.outputs[i].file, std::ios::binary).write(outputs[i].data(), outputs[i].size());
    }
    return "{\"microseconds\": [" + times + "]}";
}

// Whether the case passed, and JSON of it.
std::pair<bool, std::string> answer(std::map<std::string, IPluginCreatorV3One*> const& creators, Gpu const* gpu, std::string const& folder)
{
    std::string fault, ran = "null";
    size_t workspace = 0;
    gMessages.said.clear();
    try {
        Case const each = readCase(folder);
        require(creators.count(each.plugin), "no creator " + each.plugin);
        auto [plugin, bytes] = prepared(*creators.at(each.plugin), each);
        workspace = bytes;
        if (gpu) {
            ran = launched(*gpu, each, *plugin, bytes);
        }
    } catch (Fault const& found) {
        fault = found.what();
    }
    return {fault.empty(), "{\"case\": " + quoted(folder) + ", \"fault\": " + (fault.empty() ? "null" : quoted(fault)) + ", \"workspace_bytes\": " + std::to_string(workspace)
        + ", \"enqueue\": " + ran + "}"};
}

std::map<std::string, IPluginCreatorV3One*> creatorsOf(char const* path)
{
    void* const library = dlopen(path, RTLD_NOW);
    require(library, library ? "" : dlerror());
    auto const list = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    auto const hear = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    require(list && hear, std::string(path) + " has no getCreators or no setLoggerFinder");
    hear(&gMessages);
    int32_t count = 0;
    IPluginCreatorInterface* const* const all = list(count);
    std::map<std::string, IPluginCreatorV3One*> found;
    for (int32_t i = 0; i < count; ++i) {
        require(!strcmp(all[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE"), "a creator of another interface");
        auto* const creator = static_cast<IPluginCreatorV3One*>(all[i]);
        found[creator->getPluginName()] = creator;
    }
    return found;
}

std::string described(std::map<std::string, IPluginCreatorV3One*> const& creators)
{
    std::string found;
    for (auto const& [name, creator] : creators) {
        std::string fields;
        PluginFieldCollection const* const all = creator->getFieldNames();
        for (int32_t i = 0; i < all->nbFields; ++i) {
            fields += (i ? ", " : "") + quoted(all->fields[i].name);
        }
        found += (found.empty() ? "" : ", ") + std::string("{\"name\": ") + quoted(name) + ", \"version\": " + quoted(creator->getPluginVersion())
            + ", \"namespace\": " + quoted(creator->getPluginNamespace()) + ", \"fields\": [" + fields + "]}";
    }
    return "[" + found + "]";
}

}  // namespace

int main(int count, char** words)
{
    std::unique_ptr<Gpu> gpu;
    std::string why = "null";
    try {
        require(count > 1, "usage: plugin_harness LIBRARY CASE...");
        auto const creators = creatorsOf(words[1]);
        try {
            gpu = std::make_unique<Gpu>();
        } catch (Fault const& found) {
            why = quoted(found.what());
        }
        printf("{\"creators\": %s, \"device\": %s, \"why\": %s}\n", described(creators).c_str(),
            gpu ? gpu->description.c_str() : "null", why.c_str());
        for (int i = 2; i < count; ++i) {
            auto const [passed, text] = answer(creators, gpu.get(), words[i]);
            printf("%s\n", text.c_str());
            fflush(stdout);
            if (gpu && !passed) {
                return kFaulty;
            }
        }
    } catch (Fault const& found) {
        fprintf(stderr, "plugin_harness: %s\n", found.what());
        return 2;
    }
    return 0;
}
