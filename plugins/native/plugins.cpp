// The TensorRT plugins AttentionMass and MergeTokens, and how a process finds them. Nothing of TensorRT is linked.
#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

#include <dlfcn.h>

#include <NvInferRuntime.h>

#include "kernels.h"

namespace fastadasp {

using namespace nvinfer1;

constexpr char const* kNamespace = "fastadasp";
constexpr char const* kVersion = "1";

ILoggerFinder* gLoggerFinder = nullptr;

void report(char const* format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (ILogger* logger = gLoggerFinder ? gLoggerFinder->findLogger() : nullptr) {
        logger->log(ILogger::Severity::kERROR, text);
    } else {
        fprintf(stderr, "fastadasp plugins: %s\n", text);
    }
}

namespace {

// Name of an element type as the kernel table has it, null for those that no kernel reads.
char const* elementType(DataType type)
{
    switch (type) {
    case DataType::kFLOAT: return "fp32";
    case DataType::kHALF: return "fp16";
    case DataType::kBF16: return "bf16";
    default: return nullptr;
    }
}

size_t elementBytes(DataType type) { return type == DataType::kFLOAT ? 4 : 2; }

// The smallest head block that holds a head; 0, after a message, if none does.
int32_t headBlockOf(int64_t headDim)
{
    for (int32_t block : {64, 128}) {
        if (headDim <= block) {
            return block;
        }
    }
    report("head_dim is %ld; the kernels hold heads of at most 128", static_cast<long>(headDim));
    return 0;
}

bool isLinear(DynamicPluginTensorDesc const& tensor) { return tensor.desc.format == TensorFormat::kLINEAR; }

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

// What both plugins answer alike. `Op` has kName and is copied as it is.
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
    IPluginV3* clone() noexcept override { return new Op(static_cast<Op const&>(*this)); }
    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }
    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t configurePlugin(
        DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*, int32_t) noexcept override
    {
        return 0;
    }
};

// (query, key) -> mass, see plugins/causal_attention.
class AttentionMass final : public Plugin<AttentionMass> {
public:
    static constexpr char const* kName = "AttentionMass";

    bool supportsFormatCombination(
        int32_t at, DynamicPluginTensorDesc const* tensors, int32_t, int32_t) noexcept override
    {
        DataType const type = tensors[at].desc.type;
        bool const fits = at == 0 ? elementType(type) != nullptr
            : at == 1             ? type == tensors[0].desc.type
                                  : type == DataType::kFLOAT;
        return fits && isLinear(tensors[at]);
    }
    int32_t getOutputDataTypes(DataType* outputs, int32_t, DataType const*, int32_t) const noexcept override
    {
        outputs[0] = DataType::kFLOAT;
        return 0;
    }
    int32_t getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t, DimsExprs* outputs,
        int32_t, IExprBuilder&) noexcept override
    {
        if (count != 2 || inputs[0].nbDims != 2 || inputs[1].nbDims != 3) {
            report("AttentionMass takes query (rows, heads * head_dim) and key (kv_heads, rows, head_dim)");
            return 1;
        }
        outputs[0].nbDims = 1;
        outputs[0].d[0] = inputs[0].d[0];
        return 0;
    }
    size_t getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
        int32_t) const noexcept override
    {
        Sizes const sizes(inputs[0].max, inputs[1].max);
        Workspace space;
        Arrays(space, sizes);
        return space.used;
    }
    int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t, PluginTensorDesc const*, int32_t) noexcept override
    {
        Sizes const sizes(inputs[0].dims, inputs[1].dims);
        if (sizes.heads * sizes.headDim != inputs[0].dims.d[1] || sizes.heads % sizes.kvHeads
            || inputs[1].dims.d[1] != sizes.rows) {
            report("AttentionMass: query (%ld, %ld) and key (%ld, %ld, %ld) do not belong together",
                long(inputs[0].dims.d[0]), long(inputs[0].dims.d[1]), long(inputs[1].dims.d[0]),
                long(inputs[1].dims.d[1]), long(inputs[1].dims.d[2]));
            return 1;
        }
        return headBlockOf(sizes.headDim) ? 0 : 1;
    }
    PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &mNoFields; }
    int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const*, void const* const* in, void* const* out,
        void* workspace, cudaStream_t stream) noexcept override;

private:
    struct Sizes {
        int32_t rows, heads, kvHeads, headDim;
        Sizes(Dims const& query, Dims const& key)
            : rows(query.d[0])
            , heads(query.d[1] / std::max<int64_t>(key.d[2], 1))
            , kvHeads(std::max<int64_t>(key.d[0], 1))
            , headDim(key.d[2])
        {
        }
    };
    struct Arrays {
        float *logSumExp, *partial;  // (heads, rows) each
        Arrays(Workspace& space, Sizes const& sizes)
            : logSumExp(space.take<float>(int64_t{sizes.heads} * sizes.rows))
            , partial(space.take<float>(int64_t{sizes.heads} * sizes.rows))
        {
        }
    };
    PluginFieldCollection mNoFields{0, nullptr};
};

int32_t AttentionMass::enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const*, void const* const* in,
    void* const* out, void* workspace, cudaStream_t stream) noexcept
{
    Sizes const sizes(inputs[0].dims, inputs[1].dims);
    Workspace space{0, static_cast<char*>(workspace)};
    Arrays const arrays(space, sizes);
    int32_t const group = sizes.heads / sizes.kvHeads;
    float const scale = 1.0F / std::sqrt(static_cast<float>(sizes.headDim));
    int32_t const headBlock = headBlockOf(sizes.headDim);
    char const* const type = elementType(inputs[0].type);
    Launcher logSumExp{};
    Launcher columns{};
    Launcher sum{};
    bool const found = headBlock && findKernel(logSumExp, "row_log_sum_exp", type, headBlock, stream)
        && findKernel(columns, "column_mass", type, headBlock, stream)
        && findKernel(sum, "sum_heads", "", 0, stream);
    bool const done = found
        && logSumExp(logSumExp.programs(sizes.rows), sizes.heads,
            {&in[0], &in[1], &arrays.logSumExp, &sizes.rows, &sizes.heads, &group, &sizes.headDim, &scale})
        && columns(columns.programs(sizes.rows), sizes.heads,
            {&in[0], &in[1], &arrays.logSumExp, &arrays.partial, &sizes.rows, &sizes.heads, &group, &sizes.headDim,
                &scale})
        && sum(sum.programs(sizes.rows), 1, {&arrays.partial, &out[0], &sizes.rows, &sizes.heads});
    return done ? 0 : 1;
}

// Where the audio lies and what is taken away: the attributes of MergeTokens.
struct Cut {
    int32_t numerator, denominator, startOffset, endOffset;
};

constexpr char const* kCutFields[] = {"numerator", "denominator", "start_offset", "end_offset"};

// (hidden, key, weight, before, after) -> merged, see plugins/merge_tokens. Of `before` and `after` only the
// lengths are read: rows of text around the audio.
class MergeTokens final : public Plugin<MergeTokens> {
public:
    static constexpr char const* kName = "MergeTokens";

    explicit MergeTokens(Cut const& cut)
        : mCut(cut)
    {
    }
    bool supportsFormatCombination(
        int32_t at, DynamicPluginTensorDesc const* tensors, int32_t, int32_t) noexcept override
    {
        DataType const type = tensors[at].desc.type;
        bool const fits = at == 0 ? elementType(type) != nullptr
            : at == 2             ? type == DataType::kFLOAT
            : at == 3 || at == 4  ? type == DataType::kINT64
                                  : type == tensors[0].desc.type;
        return fits && isLinear(tensors[at]);
    }
    int32_t getOutputDataTypes(DataType* outputs, int32_t, DataType const* inputs, int32_t) const noexcept override
    {
        outputs[0] = inputs[0];
        return 0;
    }
    int32_t getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t, DimsExprs* outputs,
        int32_t, IExprBuilder& builder) noexcept override;
    size_t getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
        int32_t) const noexcept override
    {
        Workspace space;
        Arrays(space, inputs[0].max.d[0]);
        return space.used;
    }
    int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t, PluginTensorDesc const*, int32_t) noexcept override
    {
        int64_t const rows = inputs[0].dims.d[0];
        if (inputs[1].dims.d[1] != rows || inputs[2].dims.d[0] != rows) {
            report("MergeTokens: hidden has %ld rows, key %ld, weight %ld; they must be equal", long(rows),
                long(inputs[1].dims.d[1]), long(inputs[2].dims.d[0]));
            return 1;
        }
        return headBlockOf(inputs[1].dims.d[2]) ? 0 : 1;
    }
    PluginFieldCollection const* getFieldsToSerialize() noexcept override
    {
        int32_t const* const values[] = {&mCut.numerator, &mCut.denominator, &mCut.startOffset, &mCut.endOffset};
        mFields.clear();
        for (size_t i = 0; i < std::size(kCutFields); ++i) {
            mFields.emplace_back(kCutFields[i], values[i], PluginFieldType::kINT32, 1);
        }
        mCollection = {static_cast<int32_t>(mFields.size()), mFields.data()};
        return &mCollection;
    }
    int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const* outputs, void const* const* in,
        void* const* out, void* workspace, cudaStream_t stream) noexcept override;

private:
    struct Arrays {
        float* similarity;
        int32_t *isHead, *starts;
        Arrays(Workspace& space, int64_t rows)
            : similarity(space.take<float>(rows))
            , isHead(space.take<int32_t>(rows))
            , starts(space.take<int32_t>(rows + 1))
        {
        }
    };
    bool merge(PluginTensorDesc const* inputs, void const* const* in, void* out, void* workspace, int32_t start,
        int32_t length, int32_t removed, cudaStream_t stream) const;

    Cut mCut;
    std::vector<PluginField> mFields;
    PluginFieldCollection mCollection{};
};

int32_t MergeTokens::getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t,
    DimsExprs* outputs, int32_t, IExprBuilder& builder) noexcept
{
    if (count != 5 || inputs[0].nbDims != 2 || inputs[1].nbDims != 3 || inputs[2].nbDims != 1
        || inputs[3].nbDims != 1 || inputs[4].nbDims != 1) {
        report("MergeTokens takes hidden (rows, width), key (kv_heads, rows, head_dim), weight (rows), before (n) and "
               "after (m)");
        return 1;
    }
    using Expr = IDimensionExpr const&;
    auto const apply = [&](DimensionOperation operation, Expr a, Expr b) -> Expr {
        return *builder.operation(operation, a, b);
    };
    auto const constant = [&](int64_t value) -> Expr { return *builder.constant(value); };
    Expr rows = *inputs[0].d[0];
    Expr text = apply(DimensionOperation::kSUM, *inputs[3].d[0], *inputs[4].d[0]);
    Expr outside
        = apply(DimensionOperation::kSUM, text, constant(int64_t{mCut.startOffset} + mCut.endOffset));
    Expr length = apply(DimensionOperation::kMAX, apply(DimensionOperation::kSUB, rows, outside), constant(0));
    Expr removed = apply(DimensionOperation::kFLOOR_DIV,
        apply(DimensionOperation::kPROD, length, constant(mCut.numerator)), constant(mCut.denominator));
    outputs[0] = inputs[0];
    outputs[0].d[0] = &apply(DimensionOperation::kSUB, rows, removed);
    return 0;
}

int32_t MergeTokens::enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const* outputs, void const* const* in,
    void* const* out, void* workspace, cudaStream_t stream) noexcept
{
    int64_t const rows = inputs[0].dims.d[0];
    int64_t const start = inputs[3].dims.d[0] + mCut.startOffset;
    int64_t const end = rows - inputs[4].dims.d[0] - mCut.endOffset;
    int64_t const length = std::max<int64_t>(end - start, 0);
    int64_t const removed = length * mCut.numerator / mCut.denominator;
    if (outputs[0].dims.d[0] != rows - removed || (removed && (start < 0 || end > rows))) {
        report("MergeTokens: audio rows [%ld, %ld) of %ld, %ld to remove, do not give the %ld rows of the output",
            long(start), long(end), long(rows), long(removed), long(outputs[0].dims.d[0]));
        return 1;
    }
    if (!removed) {
        size_t const bytes = rows * inputs[0].dims.d[1] * elementBytes(inputs[0].type);
        return copyOnDevice(out[0], in[0], bytes, stream) ? 0 : 1;
    }
    return merge(inputs, in, out[0], workspace, start, length, removed, stream) ? 0 : 1;
}

bool MergeTokens::merge(PluginTensorDesc const* inputs, void const* const* in, void* out, void* workspace,
    int32_t start, int32_t length, int32_t removed, cudaStream_t stream) const
{
    int32_t const rows = inputs[0].dims.d[0];
    int32_t const width = inputs[0].dims.d[1];
    int32_t const kvHeads = inputs[1].dims.d[0];
    int32_t const headDim = inputs[1].dims.d[2];
    int32_t const kept = rows - removed;
    int32_t const headBlock = headBlockOf(headDim);
    char const* const type = elementType(inputs[0].type);
    Workspace space{0, static_cast<char*>(workspace)};
    Arrays const arrays(space, rows);
    Launcher similarity{};
    Launcher edges{};
    Launcher starts{};
    Launcher mean{};
    bool const found = headBlock && findKernel(similarity, "edge_similarity", type, headBlock, stream)
        && findKernel(edges, "choose_edges", "", 0, stream) && findKernel(starts, "cluster_starts", "", 0, stream)
        && findKernel(mean, "merge_rows", type, 0, stream);
    return found
        && similarity(length - 1, 1, {&in[1], &arrays.similarity, &rows, &start, &length, &kvHeads, &headDim})
        && edges(edges.programs(rows), 1, {&arrays.similarity, &arrays.isHead, &rows, &start, &length, &removed})
        && starts(1, 1, {&arrays.isHead, &arrays.starts, &rows, &kept})
        && mean(kept, mean.programs(width), {&in[0], &in[2], &arrays.starts, &out, &width});
}

template <class Op>
class Creator : public IPluginCreatorV3One {
public:
    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }
};

class AttentionMassCreator final : public Creator<AttentionMass> {
public:
    PluginFieldCollection const* getFieldNames() noexcept override { return &mNoFields; }
    IPluginV3* createPlugin(AsciiChar const*, PluginFieldCollection const*, TensorRTPhase) noexcept override
    {
        return new AttentionMass();
    }

private:
    PluginFieldCollection mNoFields{0, nullptr};
};

// False, after a message, if the attribute is missing or of another type.
bool readField(PluginFieldCollection const& fields, char const* name, char const* node, int32_t& value)
{
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        PluginField const& field = fields.fields[i];
        if (!strcmp(field.name, name) && field.type == PluginFieldType::kINT32 && field.length == 1 && field.data) {
            memcpy(&value, field.data, sizeof value);
            return true;
        }
    }
    report("MergeTokens node %s has no int32 attribute %s", node ? node : "?", name);
    return false;
}

class MergeTokensCreator final : public Creator<MergeTokens> {
public:
    MergeTokensCreator()
    {
        for (char const* name : kCutFields) {
            mFields.emplace_back(name, nullptr, PluginFieldType::kINT32, 1);
        }
        mCollection = {static_cast<int32_t>(mFields.size()), mFields.data()};
    }
    PluginFieldCollection const* getFieldNames() noexcept override { return &mCollection; }
    IPluginV3* createPlugin(
        AsciiChar const* node, PluginFieldCollection const* fields, TensorRTPhase) noexcept override
    {
        Cut cut{};
        int32_t* const values[] = {&cut.numerator, &cut.denominator, &cut.startOffset, &cut.endOffset};
        for (size_t i = 0; i < std::size(kCutFields); ++i) {
            if (!readField(*fields, kCutFields[i], node, *values[i])) {
                return nullptr;
            }
        }
        if (cut.numerator < 0 || cut.denominator <= cut.numerator) {
            report("MergeTokens node %s: ratio %d/%d is not in [0, 1)", node ? node : "?", cut.numerator,
                cut.denominator);
            return nullptr;
        }
        return new MergeTokens(cut);
    }

private:
    std::vector<PluginField> mFields;
    PluginFieldCollection mCollection{};
};

AttentionMassCreator gAttentionMass;
MergeTokensCreator gMergeTokens;
IPluginCreatorInterface* const gCreators[] = {&gAttentionMass, &gMergeTokens};

// Where a TensorRT has these functions of its plugin registry. TensorRT 11 and RTX dropped functions that 10 has, so
// no one set of headers can call them all.
struct RegistryLayout {
    char const* library;
    int32_t registerCreator, getAllCreators, deregisterCreator;
};

constexpr RegistryLayout kLayouts[]
    = {{"libtensorrt_rtx.so.1", 8, 9, 11}, {"libnvinfer.so.11", 8, 9, 11}, {"libnvinfer.so.10", 12, 13, 15}};

template <class Function>
Function methodAt(void* object, int32_t slot)
{
    return reinterpret_cast<Function>((*static_cast<void***>(object))[slot]);
}

bool isNamed(IPluginCreatorInterface* creator, char const* name)
{
    if (strcmp(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE")) {
        return false;
    }
    auto* const own = static_cast<IPluginCreatorV3One*>(creator);
    return !strcmp(own->getPluginName(), name) && !strcmp(own->getPluginVersion(), kVersion)
        && !strcmp(own->getPluginNamespace(), kNamespace);
}

// `getCreator` would log an error where there is none.
bool isRegistered(void* registry, RegistryLayout const& layout, char const* name)
{
    using GetAll = IPluginCreatorInterface* const* (*)(void*, int32_t*);
    int32_t count = 0;
    IPluginCreatorInterface* const* const all = methodAt<GetAll>(registry, layout.getAllCreators)(registry, &count);
    return all && std::any_of(all, all + count, [name](auto* creator) { return isNamed(creator, name); });
}

// A creator that this library put into a registry on its own.
struct Registration {
    void* registry;
    RegistryLayout const* layout;
    IPluginCreatorInterface* creator;
};

template <class Op>
void registerUnlessThere(
    void* registry, RegistryLayout const& layout, Creator<Op>& creator, std::vector<Registration>& made)
{
    using Register = bool (*)(void*, IPluginCreatorInterface*, char const*);
    if (!isRegistered(registry, layout, Op::kName)
        && methodAt<Register>(registry, layout.registerCreator)(registry, &creator, kNamespace)) {
        made.push_back({registry, &layout, &creator});
    }
}

// ctypes.CDLL and `polygraphy --plugins` only open the library, so it finds the TensorRT that is already here.
// Wheels open theirs RTLD_LOCAL: it must be looked up by its name.
std::vector<Registration> registerAll()
{
    std::vector<Registration> made;
    for (RegistryLayout const& layout : kLayouts) {
        void* const library = dlopen(layout.library, RTLD_NOW | RTLD_NOLOAD);
        if (void* const symbol = library ? dlsym(library, "getPluginRegistry") : nullptr) {
            void* const registry = reinterpret_cast<void* (*)()>(symbol)();
            registerUnlessThere(registry, layout, gAttentionMass, made);
            registerUnlessThere(registry, layout, gMergeTokens, made);
        }
    }
    return made;
}

std::vector<Registration> gRegistrations = registerAll();  // after the creators that it hands over

void takeBack()
{
    using Deregister = bool (*)(void*, IPluginCreatorInterface const*);
    for (Registration const& made : gRegistrations) {
        methodAt<Deregister>(made.registry, made.layout->deregisterCreator)(made.registry, made.creator);
    }
    gRegistrations.clear();
}

}  // namespace
}  // namespace fastadasp

#define FASTADASP_EXPORT extern "C" __attribute__((visibility("default")))

// TensorRT asks for them in order to register them itself, and refuses a library whose creators are there already.
FASTADASP_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count)
{
    fastadasp::takeBack();
    count = static_cast<int32_t>(std::size(fastadasp::gCreators));
    return fastadasp::gCreators;
}

FASTADASP_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder)
{
    fastadasp::gLoggerFinder = finder;
}
