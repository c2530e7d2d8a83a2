// What every plugin of this library answers alike, from one table of its inputs.
#pragma once

#include <iterator>

#include <NvInferRuntime.h>

#include "kernels.h"

namespace fastadasp {

using namespace nvinfer1;

constexpr char const* kNamespace = "fastadasp";
constexpr char const* kVersion = "1";

// Element types that a tensor may have. An activation is fp32, fp16 or bf16, like the first input; kOwnActivation need
// not be like it.
enum class Kind { kActivation, kOwnActivation, kFloat, kInt64 };

struct Input {
    char const* name;
    char const* axes;
    int32_t rank;
    Kind kind;
    int32_t rowsAxis;  // the axis that is as long as that of the first input, -1 if none is
};

// Name of an element type as the kernel table has it, null for those that no kernel reads.
char const* elementType(DataType type);
size_t elementBytes(DataType type);
bool isOfKind(PluginTensorDesc const& tensor, Kind kind, PluginTensorDesc const& first);

// The smallest head block that holds a head; 0, after a message, if none does.
int32_t headBlockOf(int64_t headDim);

// False, after a message: the inputs are not those of the table, differ in rows, or have more elements than the
// kernels count in 32 bits.
bool haveRanks(char const* plugin, Input const* table, int32_t size, DimsExprs const* inputs, int32_t count);
bool haveEqualRows(char const* plugin, Input const* table, int32_t size, PluginTensorDesc const* inputs);
bool isCountable(char const* plugin, Input const& input, Dims const& dims);

// Arrays that share a workspace, each aligned as TensorRT aligns the whole.
struct Workspace {
    size_t used{0};
    char* base{nullptr};

    template <class T>
    T* take(int64_t count)
    {
        constexpr size_t kAlignment = 256;
        size_t const at = used;
        used += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
        return reinterpret_cast<T*>(base + at);
    }
};

// `Op` has kName, the table kInputs, kOutput, `outputShape` and `check`, and is copied as it is.
template <class Op>
class Plugin : public IPluginV3, public IPluginV3OneCore, public IPluginV3OneBuild, public IPluginV3OneRuntime {
public:
    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override
    {
        switch (type) {
        case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
        case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
        }
        return nullptr;
    }
    IPluginV3* clone() noexcept override { return new Op(op()); }
    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }
    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
    int32_t getNbOutputs() const noexcept override { return 1; }
    bool supportsFormatCombination(
        int32_t at, DynamicPluginTensorDesc const* tensors, int32_t inputs, int32_t) noexcept override
    {
        return isOfKind(tensors[at].desc, at < inputs ? Op::kInputs[at].kind : Op::kOutput, tensors[0].desc);
    }
    int32_t getOutputDataTypes(DataType* outputs, int32_t, DataType const* inputs, int32_t) const noexcept override
    {
        outputs[0] = Op::kOutput == Kind::kFloat ? DataType::kFLOAT : inputs[0];
        return 0;
    }
    int32_t getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t, DimsExprs* outputs,
        int32_t, IExprBuilder& builder) noexcept override
    {
        if (!haveRanks(Op::kName, Op::kInputs, kSize, inputs, count)) {
            return 1;
        }
        op().outputShape(inputs, outputs[0], builder);
        return 0;
    }
    // While an engine is built: the largest shapes.
    int32_t configurePlugin(
        DynamicPluginTensorDesc const* inputs, int32_t count, DynamicPluginTensorDesc const*, int32_t) noexcept override
    {
        bool fits = true;
        for (int32_t i = 0; i < count; ++i) {
            fits = isCountable(Op::kName, Op::kInputs[i], inputs[i].max) && fits;
        }
        return fits ? 0 : 1;
    }
    // While it runs: the shapes of the next calls.
    int32_t onShapeChange(
        PluginTensorDesc const* inputs, int32_t count, PluginTensorDesc const*, int32_t) noexcept override
    {
        bool fits = haveEqualRows(Op::kName, Op::kInputs, kSize, inputs);
        for (int32_t i = 0; i < count; ++i) {
            fits = isCountable(Op::kName, Op::kInputs[i], inputs[i].dims) && fits;
        }
        return fits && op().check(inputs) ? 0 : 1;
    }

private:
    static constexpr int32_t kSize = static_cast<int32_t>(std::size(Op::kInputs));

    Op& op() { return static_cast<Op&>(*this); }
};

template <class Op>
class Creator : public IPluginCreatorV3One {
public:
    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
};

// They live as long as the process.
IPluginCreatorV3One& attentionMassCreator();
IPluginCreatorV3One& mergeTokensCreator();
IPluginCreatorV3One& mergeEdgesCreator();
IPluginCreatorV3One& evictTokensCreator();

}  // namespace fastadasp
