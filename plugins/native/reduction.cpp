// The plugins that take audio rows away: MergeTokens, MergeEdges and EvictTokens.
//
// See plugins/merge_tokens and plugins/evict_tokens. Of the inputs `before` and `after`, the text around the audio,
// only the lengths are read: where the audio lies and how much goes is known from shapes and attributes.
#include <algorithm>
#include <cstring>
#include <vector>

#include "plugin.h"

namespace fastadasp {
namespace {

// Where the audio lies between the texts and what share goes: the attributes.
struct Cut {
    int32_t numerator, denominator, startOffset, endOffset;
};

constexpr char const* kCutFields[] = {"numerator", "denominator", "start_offset", "end_offset"};

// The length rule on shapes that are not known yet: rows - max(rows - text - offsets, 0) * numerator / denominator.
IDimensionExpr const* keptRows(IDimensionExpr const* rows, IDimensionExpr const* before, IDimensionExpr const* after,
    Cut const& cut, IExprBuilder& builder)
{
    using Operation = DimensionOperation;
    auto const apply = [&](Operation operation, IDimensionExpr const* a, IDimensionExpr const* b) {
        return builder.operation(operation, *a, *b);
    };
    auto const offsets = builder.constant(int64_t{cut.startOffset} + cut.endOffset);
    auto const outside = apply(Operation::kSUM, apply(Operation::kSUM, before, after), offsets);
    auto const length = apply(Operation::kMAX, apply(Operation::kSUB, rows, outside), builder.constant(0));
    auto const product = apply(Operation::kPROD, length, builder.constant(cut.numerator));
    auto const removed = apply(Operation::kFLOOR_DIV, product, builder.constant(cut.denominator));
    return apply(Operation::kSUB, rows, removed);
}

// The same on the shapes of one call.
struct Span {
    int64_t start, length, removed;
    Span(int64_t rows, int64_t before, int64_t after, Cut const& cut)
        : start(before + cut.startOffset)
        , length(std::max<int64_t>(rows - after - cut.endOffset - start, 0))
        , removed(length * cut.numerator / cut.denominator)
    {
    }
    bool isWithin(int64_t rows) const { return start >= 0 && start + length <= rows; }
};

struct Arrays {
    float* similarity;
    int32_t *stays, *starts;
    Arrays(Workspace& space, int64_t rows)
        : similarity(space.take<float>(rows))
        , stays(space.take<int32_t>(rows))
        , starts(space.take<int32_t>(rows + 1))
    {
    }
};

// One call that takes rows away.
struct Call {
    PluginTensorDesc const* inputs;
    void const* const* in;
    void* out;
    Arrays arrays;
    cudaStream_t stream;
    int32_t rows, width, start, length, removed;

    char const* type(int32_t input) const { return elementType(inputs[input].type); }
};

// `Op` has, beside what Plugin asks for:
//     kMerges                            a score links two neighbours and the largest merge; else the smallest rows go
//     float const* scores(Call const&)   null after a message
//     bool write(Call const&)            the rows of the output, from call.arrays.starts
template <class Op>
class Reducer : public Plugin<Op> {
public:
    static constexpr Kind kOutput = Kind::kActivation;

    explicit Reducer(Cut const& cut)
        : mCut(cut)
    {
    }
    void outputShape(DimsExprs const* inputs, DimsExprs& output, IExprBuilder& builder) const
    {
        output = inputs[0];
        output.d[0] = keptRows(inputs[0].d[0], inputs[kBefore].d[0], inputs[kBefore + 1].d[0], mCut, builder);
    }
    bool check(PluginTensorDesc const*) const { return true; }
    size_t getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
        int32_t) const noexcept override
    {
        Workspace space;
        Arrays(space, inputs[0].max.d[0]);
        return space.used;
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
        void* const* out, void* workspace, cudaStream_t stream) noexcept override
    {
        Dims const& hidden = inputs[0].dims;
        int64_t const rows = hidden.d[0];
        Span const span(rows, inputs[kBefore].dims.d[0], inputs[kBefore + 1].dims.d[0], mCut);
        if (outputs[0].dims.d[0] != rows - span.removed || (span.removed && !span.isWithin(rows))) {
            report("%s: %ld audio rows from row %ld on, %ld of them to remove, do not leave %ld of %ld rows", Op::kName,
                long(span.length), long(span.start), long(span.removed), long(outputs[0].dims.d[0]), long(rows));
            return 1;
        }
        if (!span.removed) {
            size_t const bytes = rows * hidden.d[1] * elementBytes(inputs[0].type);
            return copyOnDevice(out[0], in[0], bytes, stream) ? 0 : 1;
        }
        Workspace space{0, static_cast<char*>(workspace)};
        Call const call{inputs, in, out[0], Arrays(space, rows), stream, int32_t(rows), int32_t(hidden.d[1]),
            int32_t(span.start), int32_t(span.length), int32_t(span.removed)};
        return reduce(call) ? 0 : 1;
    }

protected:
    static int32_t scoreCount(Call const& call) { return Op::kMerges ? call.length - 1 : call.length; }

    // The scores that come as the second input.
    static float const* givenScores(Call const& call)
    {
        int64_t const found = call.inputs[1].dims.d[0];
        if (found != scoreCount(call)) {
            report("%s: %ld scores for %d audio rows; %d are needed", Op::kName, long(found), call.length,
                scoreCount(call));
            return nullptr;
        }
        return static_cast<float const*>(call.in[1]);
    }
    static bool mergeRows(Call const& call, void const* weight)
    {
        Launcher merge{};
        return findKernel(merge, "merge_rows", call.type(0), 0, call.stream)
            && merge(call.rows - call.removed, merge.programs(call.width),
                {&call.in[0], &weight, &call.arrays.starts, &call.out, &call.width});
    }

private:
    static constexpr int32_t kBefore = static_cast<int32_t>(std::size(Op::kInputs)) - 2;

    static bool reduce(Call const& call)
    {
        float const* const scores = Op::scores(call);
        return scores && choose(call, scores) && Op::write(call);
    }
    static bool choose(Call const& call, float const* scores)
    {
        int32_t const first = Op::kMerges ? call.start + 1 : call.start;
        int32_t const count = scoreCount(call);
        int32_t const kept = call.rows - call.removed;
        float const sign = Op::kMerges ? 1.0F : -1.0F;
        Arrays const& arrays = call.arrays;
        Launcher choose{};
        Launcher starts{};
        return findKernel(choose, "choose_rows", "", 0, call.stream)
            && findKernel(starts, "row_starts", "", 0, call.stream)
            && choose(choose.programs(call.rows), 1,
                {&scores, &arrays.stays, &call.rows, &first, &count, &call.removed, &sign})
            && starts(1, 1, {&arrays.stays, &arrays.starts, &call.rows, &kept});
    }

    Cut mCut;
    std::vector<PluginField> mFields;
    PluginFieldCollection mCollection{};
};

constexpr Input kHidden{"hidden", "(rows, width)", 2, Kind::kActivation, 0};
constexpr Input kWeight{"weight", "(rows)", 1, Kind::kFloat, 0};
constexpr Input kTextBefore{"before", "(n)", 1, Kind::kInt64, -1};
constexpr Input kTextAfter{"after", "(m)", 1, Kind::kInt64, -1};

// Merges along the most similar neighbouring keys.
class MergeTokens final : public Reducer<MergeTokens> {
public:
    static constexpr char const* kName = "MergeTokens";
    static constexpr Input kInputs[] = {
        kHidden, {"key", "(kv_heads, rows, head_dim)", 3, Kind::kOwnActivation, 1}, kWeight, kTextBefore, kTextAfter};
    static constexpr bool kMerges = true;

    using Reducer::Reducer;
    bool check(PluginTensorDesc const* inputs) const { return headBlockOf(inputs[1].dims.d[2]); }
    static float const* scores(Call const& call)
    {
        Dims const& key = call.inputs[1].dims;
        int32_t const kvHeads = key.d[0];
        int32_t const headDim = key.d[2];
        int32_t const headBlock = headBlockOf(headDim);
        Launcher similarity{};
        bool const done = headBlock
            && findKernel(similarity, "edge_similarity", call.type(1), headBlock, call.stream)
            && similarity(scoreCount(call), 1,
                {&call.in[1], &call.arrays.similarity, &call.rows, &call.start, &call.length, &kvHeads, &headDim});
        return done ? call.arrays.similarity : nullptr;
    }
    static bool write(Call const& call) { return mergeRows(call, call.in[2]); }
};

// Merges along the edges of the largest score.
class MergeEdges final : public Reducer<MergeEdges> {
public:
    static constexpr char const* kName = "MergeEdges";
    static constexpr Input kInputs[]
        = {kHidden, {"score", "(audio rows - 1)", 1, Kind::kFloat, -1}, kWeight, kTextBefore, kTextAfter};
    static constexpr bool kMerges = true;

    using Reducer::Reducer;
    static float const* scores(Call const& call) { return givenScores(call); }
    static bool write(Call const& call) { return mergeRows(call, call.in[2]); }
};

// Drops the rows of the smallest score.
class EvictTokens final : public Reducer<EvictTokens> {
public:
    static constexpr char const* kName = "EvictTokens";
    static constexpr Input kInputs[]
        = {kHidden, {"score", "(audio rows)", 1, Kind::kFloat, -1}, kTextBefore, kTextAfter};
    static constexpr bool kMerges = false;

    using Reducer::Reducer;
    static float const* scores(Call const& call) { return givenScores(call); }
    static bool write(Call const& call)
    {
        Launcher copy{};
        return findKernel(copy, "copy_rows", call.type(0), 0, call.stream)
            && copy(call.rows - call.removed, copy.programs(call.width),
                {&call.in[0], &call.arrays.starts, &call.out, &call.width});
    }
};

// False, after a message, if the attribute is missing or of another type.
bool readField(
    PluginFieldCollection const& fields, char const* name, char const* plugin, char const* node, int32_t& value)
{
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        PluginField const& field = fields.fields[i];
        if (!strcmp(field.name, name) && field.type == PluginFieldType::kINT32 && field.length == 1 && field.data) {
            memcpy(&value, field.data, sizeof value);
            return true;
        }
    }
    report("%s node %s has no int32 attribute %s", plugin, node ? node : "?", name);
    return false;
}

template <class Op>
class ReducerCreator final : public Creator<Op> {
public:
    ReducerCreator()
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
            if (!readField(*fields, kCutFields[i], Op::kName, node, *values[i])) {
                return nullptr;
            }
        }
        if (cut.numerator < 0 || cut.denominator <= cut.numerator) {
            report("%s node %s: ratio %d/%d is not in [0, 1)", Op::kName, node ? node : "?", cut.numerator,
                cut.denominator);
            return nullptr;
        }
        return new Op(cut);
    }

private:
    std::vector<PluginField> mFields;
    PluginFieldCollection mCollection{};
};

template <class Op>
IPluginCreatorV3One& creatorOf()
{
    static ReducerCreator<Op> creator;
    return creator;
}

}  // namespace

IPluginCreatorV3One& mergeTokensCreator() { return creatorOf<MergeTokens>(); }
IPluginCreatorV3One& mergeEdgesCreator() { return creatorOf<MergeEdges>(); }
IPluginCreatorV3One& evictTokensCreator() { return creatorOf<EvictTokens>(); }

}  // namespace fastadasp
